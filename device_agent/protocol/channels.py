"""Channels: who vouches for a version. What is released is signed by release keys that the controller never holds."""

from enum import StrEnum


class Channel(StrEnum):
    """What a device's owner lets it run."""

    PROD = "prod"
    """Released versions alone: a release key outside the controller has signed each of them."""
    DEV = "dev"
    """Also versions that the controller alone has signed."""

    def accepts(self, target: str) -> bool:
        """Tell whether a device on this channel may run a target, by its path (`prod/MODEL/...`, `dev/MODEL/...`)."""
        accepted = (Channel.PROD,) if self is Channel.PROD else (Channel.PROD, Channel.DEV)
        return target.partition("/")[0] in accepted
