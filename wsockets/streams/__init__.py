"""WHATWG Streams (https://streams.spec.whatwg.org/), as far as sockets need them.

`readable` and `writable` hold the standard's classes: streams, their readers
and writers, their locks. What moves the data is a controller behind each
stream; those of `direct_readable` and `direct_writable` have no queue but the
kernel's, see `channel`, and that of `default_controller` is the standard's, for
chunks of any kind. `pipe` is pipeTo. Nothing here knows what a socket is.
"""

from .readable import (
    ReadableStream,
    ReadableStreamAsyncIterator,
    ReadableStreamBYOBReader,
    ReadableStreamDefaultReader,
    ReadResult,
)
from .writable import WritableStream, WritableStreamDefaultWriter

__all__ = [
    "ReadResult",
    "ReadableStream",
    "ReadableStreamAsyncIterator",
    "ReadableStreamBYOBReader",
    "ReadableStreamDefaultReader",
    "WritableStream",
    "WritableStreamDefaultWriter",
]
