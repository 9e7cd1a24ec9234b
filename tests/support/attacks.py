"""Attacks as tests: what somebody does, and the exact word that comes of it.

A test under `attack` returns what happened, and the decorator compares it with what must happen: a code with its role
(`E_SIG_THRESHOLD[timestamp]`) where the attack is refused, words where something else is right. The page
`docs/reference/attacks.md` is written from these decorators by `python -m ops.docs.attacks`.
"""

import functools
from collections.abc import Callable
from enum import StrEnum
from typing import ParamSpec

from device_agent.protocol.errors import ProtocolError

P = ParamSpec("P")


class Group(StrEnum):
    """What an attack is after."""

    SOFTWARE = "Arbitrary software"
    ROLLBACK = "Rollback and fast-forward"
    MIX = "Mix and match, partial bundles, equivocation"
    FREEZE = "Freeze, and wrong clocks"
    TRANSPORT = "Endless data, slow retrieval, transport"
    WRONG_DEVICE = "Wrong device, stolen director"
    CONTROLLER = "Stolen or restored controller"
    IDENTITY = "Identity and the API"
    PAYLOAD = "Payload and lineage"
    LOCAL = "On the device itself"


def attack(group: Group, what: str, outcome: str) -> Callable[[Callable[P, str]], Callable[P, None]]:
    """Make a test of an attack: it returns what happened, which must be `outcome`. All three are literals."""
    del group, what  # for the page

    def decorate(test: Callable[P, str]) -> Callable[P, None]:
        @functools.wraps(test)
        def compare(*arguments: P.args, **named: P.kwargs) -> None:
            happened = test(*arguments, **named)
            assert happened == outcome, f"{happened} instead of {outcome}"

        return compare

    return decorate


def plays(group: Group, what: str, outcome: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """List a test that plays an attack and compares its outcome by itself, beside other things that it shows.

    A contract test demands that a code that is the outcome stands in the test.
    """
    del group, what, outcome  # for the page
    return lambda test: test


def label_of(act: Callable[[], object]) -> str:
    """Return the label of the ProtocolError that an act ends in, `accepted` when it does not."""
    try:
        act()
    except ProtocolError as error:
        return error.label
    return "accepted"
