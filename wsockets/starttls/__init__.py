"""STARTTLS: what is said in plaintext before `startTls()`, for eight protocols.

`Socket.startTls()` turns an established connection into TLS, but a server only
expects that after a few plaintext messages that differ from protocol to
protocol. `upgrade()` says them and then calls `startTls()`.

The dialogues are data (`dialogues.py`): who speaks, in what frame a message
comes (`frames.py`), and what counts as the server's consent. Nothing there
reads or writes; one loop (`upgrade.py`) does, through the public streams of the
socket only.

Two rules make an upgrade safe, and both are kept by construction:

- Not one byte beyond the message being heard is read. A frame asks for bytes
  only as long as they must belong to the message (one by one inside a line, by
  the announced length elsewhere), so whatever an attacker appends to the
  server's consent stays with the connection and meets the TLS engine, where it
  fails the handshake, instead of being taken for the first words of the secured
  session (CVE-2011-0411, CVE-2021-23222).
- There is no way on without TLS. A refusal, silence, an unexpected answer or an
  answer beyond the limits is an error, and the connection is aborted: an
  attacker who strips STARTTLS from the dialogue gets nothing more to read
  (CVE-2016-0772).
"""

from .dialogues import PROTOCOLS, Protocol
from .upgrade import upgrade

__all__ = ["PROTOCOLS", "Protocol", "upgrade"]
