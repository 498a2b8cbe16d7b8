"""The commands, one file each.

Slow imports are inside the functions, so that `--help` does not wait for libraries like aiokafka.
"""
