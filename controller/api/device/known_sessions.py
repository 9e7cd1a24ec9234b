"""Tokens that were checked before. A device shows the same one with every call for an hour."""

from datetime import datetime

from controller.domain.ids import DeviceId
from controller.trust.identity.sessions import Sessions, ShownToken

ENTRIES_MAX = 200_000
"""About 77 MB; beyond it the token that was learned first is checked anew."""


class KnownSessions:
    """Finds the device behind an Authorization header. For use within one event loop."""

    def __init__(self, sessions: Sessions, entries_max: int = ENTRIES_MAX) -> None:
        """Know nobody yet."""
        self._sessions = sessions
        self._entries_max = entries_max
        self._known: dict[bytes, ShownToken] = {}

    def device_of(self, authorization: bytes, now: datetime) -> DeviceId | None:
        """Return whose session the header shows, None when it shows none, or one that is over."""
        shown = self._known.get(authorization)
        if shown is None:
            shown = self._learn(authorization, now)
        elif now >= shown.ends:
            del self._known[authorization]
            return None
        return None if shown is None else DeviceId(shown.device)

    def _learn(self, authorization: bytes, now: datetime) -> ShownToken | None:
        scheme, _, token = authorization.partition(b" ")
        shown = self._sessions.read_token(token.decode("latin-1"), now) if scheme.lower() == b"bearer" else None
        if shown:
            if len(self._known) >= self._entries_max:
                del self._known[next(iter(self._known))]
            self._known[authorization] = shown
        return shown
