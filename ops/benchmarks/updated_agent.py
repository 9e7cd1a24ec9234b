"""A real agent that takes updates, and what its updater holds in memory afterwards.

The controller beside it is the tests' one: the real device API over HTTP with real signatures, so that the agent does
all of its work - verification, downloads, golden inputs in a child, activation, soak, reports.
"""

from pathlib import Path

from device_agent.protocol.assignment import SlotAssignment
from tests.support.agents import an_agent, publish_model
from tests.support.device_api import device_api
from tests.support.waiting import wait_until

SLOT = "digits"
WAIT_S = 60.0


def rss_mb_after_updates(folder: Path, updates: int) -> float:
    """Return the resident megabytes (10^6 bytes) of the updater process after so many updates of one slot."""
    folder.mkdir(parents=True)
    with device_api() as api, an_agent(api, folder) as agent:
        for version in range(1, updates + 1):
            release = publish_model(api, folder / str(version), version)
            slots: dict[str, SlotAssignment | None] = {SLOT: release.assigned(soak_s=0.1)}
            counter = api.assign(slots)
            wait_until(lambda counter=counter: "healthy" in api.states(counter), timeout_s=WAIT_S, what="the update")
        assert agent.process
        return _resident_mb(agent.process.pid)


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return round(kilobytes * 1024 / 1e6, 1)
