"""The members of the early draft, on the same Socket.

The draft that came before the Sockets API has a constructor with many options, an
EventTarget, statistics, and an `update()` that changes an open socket. All of it is
here, and none of it costs a socket that does not use it more than two slots: what
has to be remembered is in one `Extras`, made when it is first needed.

    members.py   the members themselves, as a base of Socket
    extras.py    what is remembered: the signal, the promise, the listeners' pump …
    init.py      what Socket() and update() are told, and what it comes to
    begin.py     Socket(): from that to a socket that is being connected
    body.py      what is sent first, from wherever it comes
    data.py      the event "data"
    timers.py    readyTimeout and idleTimeout
    stats.py     what the kernel has counted
    update.py    changing a socket that is open
    upgrade.py   … from plain to TLS, under the streams that are in use

The modules are given the socket that they are to work for and do not import its
class, which is above them.
"""

from .begin import begin
from .data import SocketDataEvent
from .init import SocketInitMembers
from .members import EarlyMembers
from .stats import SocketStats

__all__ = [
    "EarlyMembers",
    "SocketDataEvent",
    "SocketInitMembers",
    "SocketStats",
    "begin",
]
