"""Asking the director what time it is, when the device's own clock is at odds with what was signed.

The answer names a nonce that was just made up, so it cannot be an old one. It is asked for when the clock shows a time
that is certainly past, and when a document that was just fetched seems expired or issued in the future; what failed is
then tried once more.
"""

import json
import logging
import secrets
from collections.abc import Callable
from typing import TypeVar

from tuf.api.metadata import Root

from device_agent.clock import DeviceClock
from device_agent.journal import Record
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import format_utc
from device_agent.protocol.time_answer import TIME_ANSWER_BYTES_MAX, verify_time_answer
from device_agent.transport import Transport

_log = logging.getLogger(__name__)
_DOUBTFUL = frozenset({Code.CLOCK, Code.EXPIRED})
T = TypeVar("T")

AskTime = Callable[[str], bytes]
"""Takes a nonce and returns the director's signed answer; ProtocolError when there is none."""


def time_asker(transport: Transport, controller_url: str) -> AskTime:
    """Return the question at one controller: `POST /device/v1/time`."""
    url = f"{controller_url.rstrip('/')}/device/v1/time"

    def ask(nonce: str) -> bytes:
        body, headers = json.dumps({"nonce": nonce}).encode(), {"Content-Type": "application/json"}
        answer = transport.call("POST", url, bytes_max=TIME_ANSWER_BYTES_MAX, headers=headers, body=body)
        if answer.status != 200:
            raise ProtocolError(Code.HTTP, f"status {answer.status} for {url}", role="time", status=answer.status)
        return answer.body

    return ask


class TimeQuestion:
    """Corrects the device's clock when there is reason to doubt it."""

    def __init__(
        self, ask: AskTime, root: Callable[[], Root], clock: DeviceClock, record: Callable[[], Record]
    ) -> None:
        """`root` returns the director's newest verified root, `record` the device's present state record."""
        self._ask = ask
        self._root = root
        self._clock = clock
        self._record = record

    def in_time(self, operation: Callable[[], T]) -> T:
        """Do what fetches and verifies; do it once more with the right time where the time was in the way."""
        if self._clock.is_behind(self._record()):
            self._correct_clock("the clock shows a time that is past")
        try:
            return operation()
        except ProtocolError as error:
            if error.code not in _DOUBTFUL or not self._correct_clock(str(error)):
                raise
        return operation()

    def _correct_clock(self, reason: str) -> bool:
        """Ask and believe a verified answer; False where there is none, and the clock is left as it is."""
        nonce = secrets.token_hex(16)
        try:
            told = verify_time_answer(self._ask(nonce), root=self._root(), nonce=nonce)
        except ProtocolError as error:
            _log.warning("no answer about the time (%s): %s", reason, error)
            return False
        before = self._clock.now(self._record())
        self._clock.correct(told)
        _log.info("asked for the time (%s): it was %s here and is %s", reason, format_utc(before), format_utc(told))
        return True
