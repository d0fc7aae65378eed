"""Benchmarks of the sockets against their peers; `python -m bench --help`."""
