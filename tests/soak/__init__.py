"""Bridges under load for as long as one likes: `make soak`, `python -m tests.soak`.

lap.py        one connection from its handshake to its end, checked by its bytes
watch.py      what the process holds on to, and whether that stays level
__main__.py   laps, side by side and one after the other, on each engine
"""
