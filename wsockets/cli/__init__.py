"""The command line: `wsockets connect`, `listen`, `bridge` and `demo`.

program.py       the program: its commands, its exit codes, Ctrl-C
connecting.py    the options by which connections are made
settings.py      what they come to, and connecting that way
connect.py       `wsockets connect`: its options, and what it does
listen.py        `wsockets listen`: its options, and what it does
bridge.py        `wsockets bridge`: its options, and what it does
sinks.py         what is bridged with: a descriptor, a unix socket, a TUN
ending.py        how a bridge ended, as a line of JSON and an exit code
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
