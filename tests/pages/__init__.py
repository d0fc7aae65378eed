"""Runs the Python examples of the documentation as their readers would.

A page is run by a process of its own (`run.py`), in a small internet that it
sees (`world.py`): names such as example.com resolve to public addresses there,
and those lead to servers in the process of the test (`servers.py`), by TCP over
loopback. Nothing else can be reached. The examples themselves know nothing of
this: they import wsockets and call `connect("example.com:443", …)`.
"""
