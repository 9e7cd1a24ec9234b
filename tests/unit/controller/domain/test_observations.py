from typing import Any

from controller.domain.assignments import OutcomeState
from controller.domain.ids import DeviceId
from controller.domain.observations import (
    Decision,
    LatestOutcome,
    OutcomeKey,
    RunningSlot,
    SlotKey,
    decide_outcomes,
    running_slots,
)
from device_agent.protocol.messages import FailureStage, LifecycleItem, LifecycleState
from tests.support.decisions import NOW

CAMERA = DeviceId("dv_camera")
SLOT = SlotKey(CAMERA, "digits")
OLD, NEW = "manifest of version 1", "manifest of version 2"


def says(state: str, manifest: str = NEW, **rest: Any) -> tuple[DeviceId, LifecycleItem]:
    """Return what the camera says of a manifest."""
    return CAMERA, LifecycleItem("digits", 5, manifest, LifecycleState(state), NOW, **rest)


def failed(active: str | None = OLD) -> tuple[DeviceId, LifecycleItem]:
    return says("failed", active=active, stage=FailureStage.HEALTH, code="E_HEALTH_COMMAND", message="exit 1")


def decided(
    *reports: tuple[DeviceId, LifecycleItem], **latest: tuple[str | None, OutcomeState]
) -> dict[str | None, str]:
    """Return the decisions by manifest, where `latest` names manifests with the states of their outcomes."""
    known = {OutcomeKey(CAMERA, "digits", name): LatestOutcome(5, state) for name, state in latest.values()}
    return {one.key.manifest_sha256: str(one.state) for one in decide_outcomes(known, reports)}


def test_a_candidate_on_trial_runs_in_its_slot() -> None:
    now = running_slots({SLOT: RunningSlot(OLD, "healthy")}, [says("soaking", active=NEW)])
    assert now == {SLOT: RunningSlot(NEW, "soaking")}


def test_a_download_leaves_the_slot_with_what_it_runs() -> None:
    before = {SLOT: RunningSlot(OLD, "healthy")}
    assert running_slots(before, [says("downloading", active=OLD)]) == before


def test_a_slot_that_went_back_runs_what_it_had_and_is_healthy() -> None:
    now = running_slots({SLOT: RunningSlot(NEW, "soaking")}, [failed(active=OLD)])
    assert now == {SLOT: RunningSlot(OLD, "healthy")}


def test_a_first_model_that_failed_leaves_an_empty_slot() -> None:
    assert running_slots({}, [failed(active=None)]) == {SLOT: RunningSlot(None, "failed")}


def test_of_several_items_of_one_slot_the_last_one_counts() -> None:
    now = running_slots({}, [says("soaking", active=NEW), says("healthy", active=NEW)])
    assert now == {SLOT: RunningSlot(NEW, "healthy")}


def test_a_device_that_is_healthy_decides_what_it_took() -> None:
    assert decided(says("healthy", active=NEW), new=(NEW, OutcomeState.TAKEN)) == {NEW: "healthy"}


def test_a_failure_keeps_its_stage_code_and_message() -> None:
    key = OutcomeKey(CAMERA, "digits", NEW)
    [decision] = decide_outcomes({key: LatestOutcome(5, OutcomeState.TAKEN)}, [failed()])
    assert decision == Decision(key, 5, OutcomeState.FAILED, "health", "E_HEALTH_COMMAND", "exit 1")


def test_work_that_goes_on_decides_nothing() -> None:
    assert decided(says("downloading"), says("soaking", active=NEW), new=(NEW, OutcomeState.TAKEN)) == {}


def test_a_word_that_comes_after_the_deadline_corrects_the_record() -> None:
    assert decided(says("healthy", active=NEW), new=(NEW, OutcomeState.SILENT)) == {NEW: "healthy"}


def test_a_model_that_breaks_after_its_soak_counts_as_failed() -> None:
    assert decided(failed(), new=(NEW, OutcomeState.HEALTHY)) == {NEW: "failed"}


def test_what_was_never_assigned_decides_nothing() -> None:
    assert decided(says("healthy", "unknown", active="unknown"), new=(NEW, OutcomeState.TAKEN)) == {}


def test_a_device_back_on_what_it_had_is_where_the_next_assignment_wants_it() -> None:
    latest = {"new": (NEW, OutcomeState.TAKEN), "old": (OLD, OutcomeState.TAKEN)}
    assert decided(failed(active=OLD), **latest) == {NEW: "failed", OLD: "healthy"}


def test_a_slot_that_was_emptied_on_request_has_done_what_was_asked() -> None:
    assert decided(failed(active=None), empty=(None, OutcomeState.TAKEN)) == {None: "healthy"}


def test_a_failure_that_was_decided_before_is_not_undone_by_going_back_to_the_same_manifest() -> None:
    assert decided(failed(active=OLD), old=(OLD, OutcomeState.FAILED)) == {}
