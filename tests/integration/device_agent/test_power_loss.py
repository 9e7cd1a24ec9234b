"""Loss of power at every step of an update: the device comes back to a whole model and finishes the update."""

from pathlib import Path

from device_agent.bundle import Bundle, Progress, Share
from device_agent.durable import replace_durably
from device_agent.failure import Failure
from device_agent.journal import Journal, SlotRecord, open_journal
from device_agent.lifecycle import Found
from device_agent.serving_client import ServingStatus
from device_agent.slot_recovery import recover_slot
from device_agent.slots import ModelStore
from tests.support.kill_points import killed_before_step, steps
from tests.support.stored_models import a_store, a_stored_model

OLD, NEW = a_stored_model(1), a_stored_model(2)


def disk(directory: Path) -> tuple[Journal, ModelStore]:
    """Open what is on disk, as a start does."""
    return open_journal(directory / "state"), a_store(directory)


def prepare(directory: Path) -> None:
    """Make a device that runs the old model, confirmed."""
    directory.mkdir()
    journal, store = disk(directory)
    OLD.publish(store)
    journal.commit_slot("digits", SlotRecord(OLD.sha256, OLD.sha256))


def update(directory: Path) -> None:
    """Bring the device to the new model with the agent's own steps on the disk."""
    journal, store = disk(directory)
    slot = journal.record.slot("digits")
    if slot.good != NEW.sha256:
        if store.inspect(NEW.sha256) is not Found.INTACT:
            NEW.publish(store)
        trial = slot.begin_trial(NEW.sha256, 8, 60.0)
        journal.commit_slot("digits", trial)
        journal.commit_slot("digits", trial.confirm())
    store.collect(journal.record.manifests())


def start(directory: Path) -> None:
    """Recover as the agent does, and count the boot of a trial that goes on."""
    journal, store = disk(directory)
    recovered = recover_slot("digits", journal, store)
    if recovered.job and recovered.failure is None:
        slot = journal.record.slot("digits").begin_trial(recovered.job.manifest, 8, 60.0)
        journal.commit_slot("digits", slot)


def active(directory: Path) -> str:
    journal, store = disk(directory)
    manifest = journal.record.slot("digits").active
    assert manifest
    assert store.inspect(manifest) is Found.INTACT
    return manifest


def test_a_kill_before_any_step_leaves_the_old_or_the_new_model_whole(tmp_path: Path) -> None:
    outcomes = []
    for number in range(1000):
        directory = tmp_path / str(number)
        prepare(directory)
        if not killed_before_step(number, lambda directory=directory: update(directory)):  # type: ignore[misc]
            break
        start(directory)
        outcomes.append(active(directory))
        update(directory)
        assert active(directory) == NEW.sha256
        assert {path.name for path in (directory / "models").iterdir()} == {NEW.sha256}
        assert list((directory / "stage").iterdir()) == []
    assert len(outcomes) > 20
    assert outcomes == sorted(outcomes, key=[OLD.sha256, NEW.sha256].index)
    assert set(outcomes) == {OLD.sha256, NEW.sha256}


class ReadySlot:
    """A slot of a bundle whose candidate is complete and proven."""

    share = Share(8, Progress.READY)

    def __init__(self, name: str, journal: Journal) -> None:
        self.name = name
        self._journal = journal

    def trial(self) -> SlotRecord:
        return self._journal.record.slot(self.name).begin_trial(NEW.sha256, 8, 60.0)

    def begin(self, serving: ServingStatus) -> None:
        """Nothing is loaded here."""

    def give_up_with(self, failure: Failure) -> None:
        """Nothing fails here."""


def test_a_kill_at_any_step_of_a_bundles_commit_leaves_the_whole_old_or_the_whole_new_set(tmp_path: Path) -> None:
    outcomes = []
    for number in range(1000):
        directory = tmp_path / str(number)
        prepare(directory)
        journal, store = disk(directory)
        NEW.publish(store)
        journal.commit_slot("doors", SlotRecord(OLD.sha256, OLD.sha256))
        slots = [ReadySlot(name, journal) for name in ("digits", "doors")]
        bundle = Bundle(journal, lambda slots=slots: slots)  # type: ignore[misc]
        if not killed_before_step(number, lambda bundle=bundle, slots=slots: bundle.commit_trials(slots[0])):  # type: ignore[misc]
            break
        record = disk(directory)[0].record
        outcomes.append({record.slot(name).active for name in ("digits", "doors")})
    assert {frozenset(outcome) for outcome in outcomes} == {frozenset({OLD.sha256}), frozenset({NEW.sha256})}


def test_a_second_kill_during_the_recovery_changes_nothing(tmp_path: Path) -> None:
    killed = 0
    for number in range(0, 60, 3):
        for second in range(3):
            directory = tmp_path / f"{number}-{second}"
            prepare(directory)
            if not killed_before_step(number, lambda directory=directory: update(directory)):  # type: ignore[misc]
                break
            killed += killed_before_step(second, lambda directory=directory: start(directory))  # type: ignore[misc]
            start(directory)
            assert active(directory) in {OLD.sha256, NEW.sha256}
    assert killed > 0


def test_a_trial_that_is_never_decided_ends_after_three_boots_in_the_old_model(tmp_path: Path) -> None:
    directory = tmp_path / "device"
    prepare(directory)
    journal, store = disk(directory)
    NEW.publish(store)
    journal.commit_slot("digits", journal.record.slot("digits").begin_trial(NEW.sha256, 8, 60.0))
    seen = []
    for _ in range(4):
        start(directory)
        seen.append(active(directory))
    assert seen == [NEW.sha256, NEW.sha256, OLD.sha256, OLD.sha256]
    slot = open_journal(directory / "state").record.slot("digits")
    assert slot.refused[NEW.sha256].code == "E_BOOT_LOOP"


def test_a_damaged_candidate_goes_back_without_being_refused(tmp_path: Path) -> None:
    directory = tmp_path / "device"
    prepare(directory)
    journal, store = disk(directory)
    NEW.publish(store)
    journal.commit_slot("digits", journal.record.slot("digits").begin_trial(NEW.sha256, 8, 60.0))
    (store.directory(NEW.sha256) / "model.onnx").unlink()
    start(directory)
    assert active(directory) == OLD.sha256
    assert open_journal(directory / "state").record.slot("digits").refused == {}


def test_a_record_is_synced_before_it_is_put_in_place_and_the_directory_after(tmp_path: Path) -> None:
    assert steps(lambda: replace_durably(tmp_path / "state", b"content")) == [
        "open state.tmp",
        "sync state.tmp",
        "rename state.tmp state",
        f"sync {tmp_path.name}",
    ]


def test_a_model_is_synced_before_it_is_put_in_place_and_both_directories_after(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    NEW.put_parts(store)
    done = steps(lambda: store.publish(NEW.manifest, NEW.raw, NEW.sha256))
    arrival = done.index(f"rename {NEW.sha256} {NEW.sha256}")
    assert "sync manifest.json" in done[:arrival]
    assert done[arrival - 1] == f"sync {NEW.sha256}"
    assert done[arrival + 1 :] == ["sync models", "sync stage"]
