"""Bridges: bytes between a connection and a file descriptor, without Python."""
