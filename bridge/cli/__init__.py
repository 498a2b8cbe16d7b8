"""The commands, a file each. What is slow to import is imported inside them: `--help` is for
everybody, aiokafka is not.
"""
