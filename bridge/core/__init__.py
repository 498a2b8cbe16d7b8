"""Pure logic: frames become events, and events become records. Nothing here waits.

These modules use no asyncio, sockets, clocks, random numbers, operating system calls, logging or
client libraries. Time and identity are passed as arguments. `make contracts` checks this rule.
"""
