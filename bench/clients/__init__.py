"""One small program per library, all doing the same work for the same peer.

Each is started as a process of its own with a job (one JSON object) as its only
argument, and prints one JSON object when the work is done; see `job`.
"""
