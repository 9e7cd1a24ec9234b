"""The measures of a sealed artifact, apart from its cryptography: manifests are read where nothing is opened.

MAGIC | chunk 0 | chunk 1 | ...    each chunk is CHUNK bytes of the plaintext, the last one fewer, and TAG more
"""

MAGIC = b"EFSEAL1\n"
CHUNK = 1024 * 1024
TAG = 16


def sealed_length(length: int) -> int:
    """Return how long the sealed form of `length` bytes is; of nothing it is one empty chunk."""
    return len(MAGIC) + length + TAG * max(1, -(-length // CHUNK))
