"""The link to the controller over time: one session, one schedule, one backoff for polls and reports alike."""

import logging
import time
from collections.abc import Callable
from functools import partial
from random import Random

from device_agent.controller_client import (
    Accepted,
    ControllerClient,
    Fresh,
    NotModified,
    Refused,
    Renewed,
    RetryLater,
    Session,
    SessionOver,
)
from device_agent.identity import Identity
from device_agent.polling import Backoff, clamp_interval_s, first_poll_s, next_poll_s, retry_s
from device_agent.reports import ReportSpool
from device_agent.settings import PollingSettings

_log = logging.getLogger(__name__)
_REFUSED = Backoff(base_s=60.0, cap_s=3600.0)
"""After an answer that a repetition will not change, such as that of a revoked device."""
_NEVER_ACCEPTED = frozenset({400, 413, 422})
"""What the controller answers to a report batch that it could not take however often it was sent."""
_TAKEN_BEFORE = "E_REPORT_REPLAY"
"""The controller has the batch already, or one after it."""
_CLONE = "E_CLONE_SUSPECTED"
"""The controller has other reports under this device's key and the same numbers. People have to look; the reports are
kept for them."""
_BATCHES_AT_ONCE = 4


class ControllerLink:
    """Polls and reports when it is time to."""

    def __init__(
        self,
        client: ControllerClient,
        identity: Identity,
        spool: ReportSpool,
        settings: PollingSettings,
        random: Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The first poll comes at a random moment within the configured spread."""
        self._client = client
        self._identity = identity
        self._spool = spool
        self._settings = settings
        self._random = random
        self._clock = clock
        self._session: Session | None = None
        self._session_ends = 0.0
        self._tag: str | None = None
        self._interval_s = self._clamped(settings.interval_s)
        self._next_poll = clock() + first_poll_s(settings.first_poll_spread_s, random)
        self._not_before = 0.0
        self._failures = 0
        self._reports_not_before = 0.0
        self._reports_refused = 0

    @property
    def is_open(self) -> bool:
        """Tell whether the link is not waiting after a failure."""
        return self._clock() >= self._not_before

    @property
    def due_in_s(self) -> float:
        """Seconds until the next poll."""
        return max(0.0, max(self._next_poll, self._not_before) - self._clock())

    def poll_when_due(self) -> Fresh | None:
        """Poll if it is time to; return an assignment that is to be verified, and then accepted or rejected."""
        if self.due_in_s > 0:
            return None
        answer = self._in_session(lambda session: self._client.poll(session, self._tag))
        if isinstance(answer, Fresh):
            return answer
        if isinstance(answer, NotModified):
            self._succeed()
            self._next_poll = self._clock() + next_poll_s(self._interval_s, self._random)
        return None

    def accept(self, fresh: Fresh, poll_s: float) -> None:
        """The assignment was verified and stored: poll for the next one at the asked interval, within our bounds."""
        self._succeed()
        self._tag = fresh.tag
        self._interval_s = self._clamped(poll_s)
        self._next_poll = self._clock() + next_poll_s(self._interval_s, self._random)

    def reject(self, reason: str) -> None:
        """The assignment could not be taken: ask for it again, whole, as after any failure."""
        self._tag = None
        self._fail(RetryLater(reason))

    def deliver(self) -> None:
        """Send what is spooled, a bounded number of batches, unless the link is backing off."""
        for _ in range(_BATCHES_AT_ONCE):
            may_send = self.is_open and self._clock() >= self._reports_not_before
            batch = self._spool.cut() if may_send else None
            if batch is None:
                return
            signature = self._identity.report_signature(batch.body)
            answer = self._in_session(partial(self._client.send, batch=batch.body, signature=signature))
            if not self._is_done_with(batch.id, answer):
                return
            self._spool.acknowledge(batch.id)

    def renew_certificate(self) -> str | None:
        """Return a new certificate of the device's key, None where there is none this time."""
        envelope = self._identity.renewal_envelope()
        answer = self._in_session(lambda session: self._client.renew_certificate(session, envelope))
        return answer.certificate if isinstance(answer, Renewed) else None

    def _is_done_with(self, batch: str, answer: "_Answer") -> bool:
        """Tell whether a batch may be forgotten."""
        if isinstance(answer, Accepted):
            self._succeed()
            self._reports_refused = 0
            return True
        if not isinstance(answer, Refused):
            return False
        if answer.code == _TAKEN_BEFORE:
            _log.warning("report batch %s was taken before: %s", batch, answer)
            return True
        if answer.code == _CLONE:
            self._reports_refused += 1
            wait_s = retry_s(self._reports_refused, _REFUSED, self._random)
            self._reports_not_before = self._clock() + wait_s
            _log.error("reports are kept and tried again in %.0f s: %s", wait_s, answer)
            return False
        if answer.status in _NEVER_ACCEPTED:
            _log.error("the controller cannot accept report batch %s: %s", batch, answer)
            return True
        return False

    def _in_session(self, call: "Callable[[Session], _Answer]") -> "_Answer":
        """Make a call with a valid session, opening one where the last is over; failures set the backoff."""
        answer: _Answer = SessionOver()
        for _ in range(2):
            session = self._open()
            if isinstance(session, RetryLater | Refused):
                answer = session
                break
            answer = call(session)
            if not isinstance(answer, SessionOver):
                break
            self._session = None
        if isinstance(answer, SessionOver):
            answer = RetryLater("the controller does not accept its own session")
        if isinstance(answer, Refused) and answer.code in {_TAKEN_BEFORE, _CLONE}:
            self._succeed()  # it is about the batch; the link is fine, and what to run is still asked for
        elif isinstance(answer, RetryLater | Refused):
            self._fail(answer)
        return answer

    def _open(self) -> Session | RetryLater | Refused:
        if self._session and self._clock() < self._session_ends:
            return self._session
        session = self._client.open_session(self._identity)
        if isinstance(session, Session):
            self._session = session
            # A little early, so that a call is not cut off by an end that came while it travelled.
            self._session_ends = self._clock() + session.expires_s * 0.9
        return session

    def _clamped(self, asked_s: float) -> float:
        return clamp_interval_s(asked_s, self._settings.minimum_s, self._settings.maximum_s)

    def _succeed(self) -> None:
        self._failures, self._not_before = 0, 0.0

    def _fail(self, answer: RetryLater | Refused) -> None:
        self._failures += 1
        if isinstance(answer, Refused):
            wait_s = retry_s(self._failures, _REFUSED, self._random)
            _log.error("the controller refuses: %s; trying again in %.0f s", answer, wait_s)
        else:
            backoff = Backoff(self._settings.retry_base_s, self._settings.retry_cap_s)
            wait_s = retry_s(self._failures, backoff, self._random, answer.seconds)
            _log.warning("%s; trying again in %.1f s", answer.reason, wait_s)
        self._not_before = self._clock() + wait_s


_Answer = NotModified | Fresh | Accepted | Renewed | SessionOver | RetryLater | Refused
