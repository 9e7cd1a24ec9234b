"""Ids that a replay makes again: who stands in which stage follows from a rollout's id."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from random import Random

import pytest

from controller.use_cases import identity


class _Entropy:
    """In place of the machine's randomness, as `secrets`."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def token_hex(self, count: int) -> str:
        return self._random.randbytes(count).hex()


class _Clock:
    """In place of the machine's clock, as `time`: a millisecond later whenever it is asked."""

    def __init__(self) -> None:
        self._milliseconds = count(1)

    def time_ns(self) -> int:
        return next(self._milliseconds) * 1_000_000


@contextmanager
def seeded_identifiers(random: Random) -> Iterator[None]:
    """Replace the machine's randomness and clock where ids are made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "secrets", _Entropy(random))
        patch.setattr(identity, "time", _Clock())
        yield
