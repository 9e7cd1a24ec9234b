"""Devices of an installation: real agents with a linear model in the slot `digits`, some of which may be killed."""

import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.agents import AgentProcess, Controller
from tests.support.waiting import wait_until

SERVES_S = 120.0


class RunningFleet:
    """Some agents, by name."""

    def __init__(self, agents: list[AgentProcess]) -> None:
        self.agents = {agent.name: agent for agent in agents}

    def urls(self) -> list[str]:
        """Return the addresses of the local endpoints, once all are there."""
        wait_until(lambda: all(agent.serving() for agent in self.agents.values()), what="the local endpoints")
        return [agent.serving()["url"] for agent in self.agents.values()]

    def versions(self, slot: str = "digits") -> dict[str, str]:
        """Ask every device; return the version that answered, empty where none did."""
        return {name: version_on(agent, slot) for name, agent in self.agents.items()}

    def wait_for_version(self, version: str) -> None:
        """Return once every device answers with this version."""
        wait_until(
            lambda: set(self.versions().values()) == {version},
            timeout_s=SERVES_S,
            what=f"every device to answer with version {version}",
            every_s=0.2,
        )


def version_on(agent: AgentProcess, slot: str = "digits") -> str:
    """Return the version that answers on the device; empty while none does."""
    if not agent.serving():
        return ""
    try:
        return agent.answer_version(slot)
    except urllib.error.HTTPError:
        return ""


@contextmanager
def a_fleet(
    controller: Controller, folder: Path, precisions: Mapping[str, str], extra: str = ""
) -> Iterator[RunningFleet]:
    """Run an agent for each name; `precisions` says what it can run, `extra` is more of its settings in TOML."""
    with ExitStack() as stack:
        agents = []
        for name, precision in precisions.items():
            home = folder / name
            home.mkdir(parents=True)
            agent = AgentProcess(controller, home, extra, name=name, precision=precision)
            stack.callback(agent.end)
            agent.start()
            agents.append(agent)
        yield RunningFleet(agents)
