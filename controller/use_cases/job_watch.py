"""Watching a job of a variant: its progress goes to the variant's row, its words into the log that is kept."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from controller.artifacts.child_process import Heartbeat
from controller.domain.errors import Conflict, InvalidInput, Unavailable
from controller.store import job_results
from controller.use_cases.variant_work import Job, Workshop, renew

WRITE_EVERY_S = 1.0
"""How often progress is written at most: people look at it, and every write is a commit."""
LINES_MAX = 400


class Watch:
    """Follows one run of one job. Each write renews the claim; LeaseLost from it ends the job's child."""

    def __init__(self, shop: Workshop, job: Job, name: str) -> None:
        """Name the job as people shall read it."""
        self._shop = shop
        self._job = job
        self._name = name
        self._began_s = time.monotonic()
        self._written_s = 0.0
        self._progress: dict[str, object] = {"job": name, "share": 0.0, "words": "", **job.place}
        self._lines: list[str] = []
        self._also: Callable[[], object] = lambda: None

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self._began_s

    def heartbeat(self, also: Callable[[], object]) -> Heartbeat:
        """Return what keeps the claim, and whatever else must be kept, while the child runs."""
        self._also = also
        return Heartbeat(self._write, self._job.heartbeat.every_s, told=self.told, printed=self._printed)

    def told(self, share: float, words: str) -> None:
        """Take a line of progress."""
        self._progress |= {"share": share, "words": words}
        line = f"{self.seconds:8.2f} s  {share * 100:3.0f} %  {words}"
        if len(self._lines) < LINES_MAX:
            self._lines.append(line)
        if time.monotonic() - self._written_s >= WRITE_EVERY_S:
            self._write()

    def waits(self, words: str) -> None:
        """Say that the job waits; the log needs no line for every look."""
        self._progress |= {"words": words}
        if time.monotonic() - self._written_s >= WRITE_EVERY_S:
            self._write()

    def remembers(self, seconds: float) -> None:
        """Keep a log that says that nothing had to be done."""
        self._lines.append(f"the same work was done before, in {seconds:.1f} s; its result is used")
        self._keep_log(self._shop.clock(), "remembered")

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Keep the log of what happens inside, however it ends."""
        started_at, self._began_s, outcome = self._shop.clock(), time.monotonic(), "broke off"
        try:
            yield
            outcome = "done"
        except InvalidInput as refusal:
            outcome = "refused"
            self._lines.append(refusal.detail)
            raise
        except Exception as error:
            self._lines.append(f"{type(error).__name__}: {error}")
            raise
        finally:
            self._keep_log(started_at, outcome)

    def _printed(self, errors: str) -> None:
        if errors.strip():
            self._lines.append(errors.strip())

    def _write(self) -> None:
        self._written_s = time.monotonic()
        renew(self._shop, self._job.claim, dict(self._progress))
        self._also()

    def _keep_log(self, started_at: datetime, outcome: str) -> None:
        row = {
            "job": self._name,
            "attempt": self._job.claim.attempts,
            "started_at": started_at,
            "seconds": self.seconds,
            "outcome": outcome,
            "text": "\n".join(self._lines),
        }
        # The log is for people; work that is done must not be lost because it could not be written.
        with suppress(Unavailable, Conflict), self._shop.database.writing() as tx:
            job_results.add_log(tx, self._job.claim.id, row)
