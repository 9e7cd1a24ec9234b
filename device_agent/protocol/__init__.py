"""The wire contract between controller and device: pure, shared by both sides, free of I/O.

Whatever crosses the link is defined here once: the manifest, the assignment and its verification, the
messages, the latency histogram and the error codes. Unknown fields are ignored, so that an old agent
understands a newer controller; a field that changes its meaning gets a new `schema` number instead.
"""
