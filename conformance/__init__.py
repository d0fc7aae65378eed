"""A conformance suite for the Sockets API of WinterTC, for any implementation.

The scenarios are data (scenarios/*.toml); README.md tells how to read them, how to
run them and how to add an implementation.
"""
