"""New identifiers: unguessable, and sortable by the time they were made."""

import secrets
import time


def new_id(prefix: str) -> str:
    """Return `prefix_` and 22 hexadecimal digits: 48 bits of milliseconds, 40 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}_{milliseconds:012x}{secrets.token_hex(5)}"
