"""A simulated device: polls, verifies, lets its slot work, reports; over a link that loses, delays and repeats."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Protocol

from tuf.api.metadata import Root

from controller.domain.ids import DeviceId
from device_agent.polling import first_poll_s, next_poll_s
from device_agent.protocol.assignment import Recipient, verify_assignment
from device_agent.protocol.channels import Channel
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.messages import FailureStage, LifecycleItem, parse_report_batch
from device_agent.slot_reports import Wanted
from tests.simulation.agenda import Agenda
from tests.simulation.memory_disk import MemoryJournal, MemorySpool, MemoryStore
from tests.simulation.scenario import HOUR_S, MINUTE_S, Character
from tests.simulation.virtual_slot import PowerCutError, VirtualSlot

SLOT = "digits"
COMMIT_CUT_SHARE = 0.01
"""Share of the commits right after which the power goes, on devices that have power cuts."""
DAMAGE_SHARE = 0.05
"""Share of the power cuts that leave the active model damaged on disk."""


@dataclass(frozen=True)
class Answer:
    """What a poll is answered: the envelope of an assignment, or None where the one that was shown is still good."""

    counter: int
    envelope: bytes | None


class Controller(Protocol):
    """What a device sees of a controller process. An answer that never comes was lost."""

    def poll(self, device_id: DeviceId, shown: int | None, answer: Callable[[Answer], None]) -> None:
        """Ask what to run, showing the counter of the assignment that is known."""

    def report(self, device_id: DeviceId, body: bytes, acknowledge: Callable[[], None]) -> None:
        """Hand over a batch."""


class VirtualDevice:
    """One device. `journal`, `store` and `spool` outlive a power cut, everything else is memory."""

    def __init__(
        self,
        device_id: DeviceId,
        character: Character,
        fate: Callable[[str], FailureStage | None],
        agenda: Agenda,
        director_root: Root,
        choose_controller: Callable[[], Controller],
        random: Random,
    ) -> None:
        """Nothing happens before `start`."""
        self.id = device_id
        self.character = character
        self.agenda = agenda
        self.random = random
        self.fate = fate
        self.journal = MemoryJournal(self._committed)
        self.store = MemoryStore()
        self.spool = MemorySpool(device_id)
        self.is_online = True
        self.heard_at: datetime | None = None
        """When a controller process gave the last answer that arrived."""
        self.rejections: list[str] = []
        """Why assignments were not accepted. No honest controller causes any."""
        self.refusals_acknowledged: dict[str, datetime] = {}
        """Manifests that the controller has confirmed to know as refused, and since when."""
        self._recipient = Recipient(device_id, character.profile, Channel.DEV)
        self._root = director_root
        self._choose_controller = choose_controller
        self._boot = 0
        self._poll_number = 0
        self._shown: int | None = None
        self._healed = False
        self.slot = VirtualSlot(SLOT, self)

    @property
    def hiccup_share(self) -> float:
        """Share of downloads that break."""
        return 0.0 if self._healed else self.character.hiccup_share

    @property
    def is_at_rest(self) -> bool:
        """Tell whether the device has nothing to do, and nothing to say that it could say."""
        return self.slot.is_idle and (not self.character.speaks or self.spool.cut() is None)

    def start(self) -> None:
        """Begin to poll, and to suffer what the character brings."""
        if self.character.hears:
            self._plan_poll(first_poll_s(self.character.poll_s, self.random))
        if self.character.online_s:
            self.agenda.after(self._spell_s(self.character.online_s), f"{self.id} leaves", self._leave)
        if self.character.power_cycle_s:
            self.agenda.after(self._spell_s(self.character.power_cycle_s), f"{self.id} loses power", self._cycle)

    def heal(self) -> None:
        """Let nothing go wrong from now on. A device that never heard or spoke still does not."""
        self._healed = self.is_online = True

    def plan(self, delay_s: float, what: str, work: Callable[[], None]) -> None:
        """Do the work that many seconds from now, unless the machine goes down before."""
        boot = self._boot

        def begin() -> None:
            if boot == self._boot:
                self._carefully(work)

        self.agenda.after(delay_s, f"{self.id}: {what}", begin)

    # Power.

    def _carefully(self, work: Callable[[], None]) -> None:
        """Do the work, starting anew where the power goes, then say what there is to say."""
        try:
            work()
        except PowerCutError:
            self._restart()
        self._send()

    def _committed(self) -> None:
        if self.character.power_cycle_s and not self._healed and self.random.random() < COMMIT_CUT_SHARE:
            raise PowerCutError

    def _cycle(self) -> None:
        if not self._healed:
            self._carefully(self._restart)
            self.agenda.after(self._spell_s(self.character.power_cycle_s), f"{self.id} loses power", self._cycle)

    def _restart(self) -> None:
        self._boot += 1
        self._shown = None
        active = self.slot.record.active
        if active and not self._healed and self.random.random() < DAMAGE_SHARE:
            self.store.damaged.add(active)
        # The machine may go down again while it recovers.
        while True:
            try:
                self.slot = VirtualSlot(SLOT, self)
                self.slot.step()
                break
            except PowerCutError:
                continue
        if self.character.hears:
            self._plan_poll(first_poll_s(MINUTE_S, self.random))

    # The link.

    def _leave(self) -> None:
        if not self._healed:
            self.is_online = False
            self.agenda.after(self._spell_s(HOUR_S), f"{self.id} comes back", self._come_back)

    def _come_back(self) -> None:
        self.is_online = True
        self._send()
        self.agenda.after(self._spell_s(self.character.online_s), f"{self.id} leaves", self._leave)

    def _spell_s(self, mean_s: float | None) -> float:
        assert mean_s
        return self.random.expovariate(1 / mean_s)

    def _is_lost(self) -> bool:
        return not self.is_online or (not self._healed and self.random.random() < self.character.lost_share)

    def _plan_poll(self, delay_s: float) -> None:
        self.plan(delay_s, "polls", self._poll)

    def _poll(self) -> None:
        self._plan_poll(next_poll_s(self.character.poll_s, self.random))
        self._poll_number += 1
        number, boot = self._poll_number, self._boot

        def arrive(answer: Answer) -> None:
            # An answer to a poll that the device has given up does not reach it any more.
            if (number, boot) == (self._poll_number, self._boot) and not self._is_lost():
                self.heard_at = self.agenda.now
                self._carefully(lambda: self._take(answer))

        if not self._is_lost():
            self._choose_controller().poll(self.id, self._shown, arrive)

    def _take(self, answer: Answer) -> None:
        if answer.envelope is None:
            return
        record, now = self.journal.record, self.agenda.now
        try:
            assignment, mark = verify_assignment(
                answer.envelope, root=self._root, recipient=self._recipient, mark=record.mark, now=now
            )
        except ProtocolError as error:
            self._shown = None
            self.rejections.append(str(error))
            return
        self.journal.commit(replace(record, mark=mark, director_issued=assignment.issued))
        self._shown = assignment.counter
        if SLOT in assignment.slots:
            self.slot.assign(Wanted(assignment.counter, assignment.slots[SLOT]))

    def _send(self) -> None:
        """Send what is spooled; what is lost on the way is sent again after the next poll."""
        batch = self.spool.cut() if self.character.speaks else None
        if batch is None or self._is_lost():
            return
        items = parse_report_batch(batch.body).items
        refused = [item.manifest for item in items if isinstance(item, LifecycleItem) and item.refused]

        def acknowledge() -> None:
            if not self._is_lost():
                self.spool.acknowledge(batch.id)
                for manifest in refused:
                    self.refusals_acknowledged.setdefault(manifest, self.agenda.now)

        controller = self._choose_controller()
        controller.report(self.id, batch.body, acknowledge)
        if not self._healed and self.random.random() < self.character.late_share:
            delay_s = self._spell_s(HOUR_S)
            again = self._choose_controller()
            self.agenda.after(
                delay_s, f"{self.id}: an old report arrives", lambda: again.report(self.id, batch.body, acknowledge)
            )
