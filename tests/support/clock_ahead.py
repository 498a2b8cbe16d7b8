"""Runs the bridge with a clock that is ahead: python clock_ahead.py SECONDS run.

Python's clock only, which the bridge and its libraries read. The monotonic clock stays.
"""

import runpy
import sys
import time

ahead_s = float(sys.argv.pop(1))
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + ahead_s
time.time_ns = lambda: _time_ns() + round(ahead_s * 1e9)
runpy.run_module("bridge", run_name="__main__", alter_sys=True)
