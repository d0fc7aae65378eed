"""listen() and ServerSocket: sockets that others connect to.

options.py         what listen() is told, and what it comes to
endpoint.py        from an address to a listening descriptor, unix files included
arrival.py         from an accepted descriptor to an open Socket, or none
server_socket.py   the accept loop, and who is given what it takes
"""

from .options import ListenMembers, ReloadMembers
from .server_socket import ServerSocket, ServerStats, listen, start_listening

__all__ = [
    "ListenMembers",
    "ReloadMembers",
    "ServerSocket",
    "ServerStats",
    "listen",
    "start_listening",
]
