"""The command line: `wsockets connect`, `wsockets listen` and `wsockets demo`.

program.py       the program: its commands, its exit codes, Ctrl-C
connect.py       the options of `wsockets connect`, and what it does
listen.py        the options of `wsockets listen`, and what it does
settings.py      what those of connect come to, and connecting that way
relay.py         standard input and output over a socket
report.py        what can be told about a connection, as data
certificates.py  … and about a certificate
show.py          the report for a person
meter.py         the progress bar
secrets.py       keys and passwords from files and the environment
exits.py         the exit codes
demo/            the demonstration
"""

from .program import main, program

__all__ = ["main", "program"]
