"""The model that a slot has confirmed keeps being served, whatever becomes of newer ones.

After a start of the device or of the serving process it is loaded again, also while a candidate is being fetched or
waits for its next attempt: an assignment that cannot be carried out must not keep the slot dark.
"""

import logging
import time

from device_agent.errors import ServingUnavailableError
from device_agent.polling import retry_s
from device_agent.protocol.messages import FailureStage
from device_agent.serving_client import ServingStatus
from device_agent.workbench import Workbench

_log = logging.getLogger(__name__)
_LOOK_AGAIN_S = 60.0
"""How often a model that is only kept, and never served, is looked at."""


class StandingModel:
    """Serves what one slot's record names as active, outside of trials."""

    def __init__(self, name: str, bench: Workbench) -> None:
        """`name` is the slot's."""
        self._name = name
        self._bench = bench
        self._failures = 0
        self._not_before = 0.0

    def keep(self, serving: ServingStatus | None) -> None:
        """Load the model where the serving process does not have it; what failed is tried again after a while."""
        active = self._bench.journal.record.slot(self._name).active
        if serving is None or serving.manifests.get(self._name) == active or time.monotonic() < self._not_before:
            return
        if self._bench.placement.differs(self._name, active, serving):
            self.restore()
        else:
            self._not_before = time.monotonic() + _LOOK_AGAIN_S

    def restore(self) -> None:
        """Make the slot serve what its record names; what fails here is tried again by `keep`."""
        active = self._bench.journal.record.slot(self._name).active
        try:
            failure = self._bench.placement.place(self._name, active)
        except ServingUnavailableError as error:
            _log.warning("slot %s: %s", self._name, error)
            return
        if failure is None:
            self._failures, self._not_before = 0, 0.0
            return
        _log.error("slot %s: the confirmed model cannot be served: %s", self._name, failure.message)
        self._failures += 1
        self._not_before = time.monotonic() + retry_s(self._failures, self._bench.retries, self._bench.random)
        if failure.stage is FailureStage.VERIFY and active:
            # Its bytes are gone for good; without it the next assignment fetches them again.
            self._bench.journal.commit_slot(self._name, self._bench.journal.record.slot(self._name).empty())
            self._bench.store.discard(active)
