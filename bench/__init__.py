"""Benchmarks of sockets and bridges against their peers; `python -m bench --help`."""
