"""The pure middle: frames become events, events become records. Decided here, awaited outside.

What may not live here: asyncio, sockets, clocks, random numbers, the operating system, logging and
client libraries. Time and identity come in as arguments. `tests/test_layers.py` holds the rule.
"""
