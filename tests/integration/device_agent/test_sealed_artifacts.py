"""Artifacts that travel sealed, over a real server: interrupted anywhere, damaged on the disk, and with no key."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from device_agent.arrival import fetch_artifact
from device_agent.downloader import Downloader, DownloadLimits
from device_agent.failure import Failure
from device_agent.lifecycle import Found
from device_agent.polling import Backoff
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import CHUNK_BYTES, ArtifactEntry
from device_agent.protocol.messages import FailureStage
from device_agent.protocol.sealed_form import CHUNK, sealed_length
from device_agent.slots import ModelStore
from device_agent.transport import Pace, Transport
from tests.support.agents import an_agent, publish_model
from tests.support.device_api import DeviceApi, Fault
from tests.support.kill_points import killed_before_step, steps
from tests.support.manifests import a_manifest
from tests.support.sealed_models import CONTENT_KEY, assigned_with_key, sealed_entry, sealed_form, sealed_manifest
from tests.support.stored_models import a_store, entry_of, packed_entry_of, xz_stream
from tests.support.waiting import wait_until

CONTENT = bytes(Random(6).choices(range(64), k=CHUNK + 3 * CHUNK_BYTES + 1000))
STREAM = xz_stream(CONTENT)
FORM = sealed_form(STREAM)
PLAIN = packed_entry_of("model.onnx", CONTENT, STREAM)
GOLDEN = entry_of("golden.npz", b"golden")
MANIFEST, FORMS = sealed_manifest(
    replace(a_manifest(), artifacts=(PLAIN, GOLDEN)),
    {hashlib.sha256(STREAM).hexdigest(): STREAM, GOLDEN.sha256: b"golden"},
)
MODEL = MANIFEST.artifacts[0]
NAME = hashlib.sha256(MANIFEST.to_bytes()).hexdigest()


@pytest.fixture
def store(api: DeviceApi, tmp_path: Path) -> ModelStore:
    """An empty store; the server has the sealed forms and nothing else."""
    api.artifacts |= FORMS
    return a_store(tmp_path / "device")


def fetch(
    api: DeviceApi,
    store: ModelStore,
    entry: ArtifactEntry = MODEL,
    *,
    key: bytes | None = CONTENT_KEY,
    leave_after: int | None = None,
) -> int:
    """Fetch without waiting, for so many steps or to the end; return how many steps were taken."""
    limits = DownloadLimits(tries=4, backoff=Backoff(base_s=5, cap_s=300), pace=Pace(60, 0, 60))
    downloader = Downloader(Transport(), f"{api.url}/artifacts/sha256", limits, Random(1))
    taken = 0
    fetching = fetch_artifact(entry, NAME, downloader, store, key)
    for _ in fetching:
        taken += 1
        if taken == leave_after:
            fetching.close()
    return taken


def files(store: ModelStore) -> dict[str, int]:
    """Return the lengths of the files in the stage."""
    stage = store.part(NAME, MODEL.name).parent
    return {path.name: path.stat().st_size for path in stage.iterdir()}


def install(api: DeviceApi, directory: Path) -> None:
    """Bring the model into the store with the agent's own steps."""
    store = a_store(directory)
    if store.inspect(NAME) is Found.INTACT:
        return
    store.require_space(MANIFEST, NAME)
    for entry in MANIFEST.artifacts:
        fetch(api, store, entry)
    store.publish(MANIFEST, MANIFEST.to_bytes(), NAME)


def test_a_sealed_packed_artifact_arrives_in_clear_and_only_its_sealed_form_travels(
    api: DeviceApi, store: ModelStore
) -> None:
    fetch(api, store)
    assert store.part(NAME, "model.onnx").read_bytes() == CONTENT
    assert files(store) == {"model.onnx.part": len(CONTENT)}
    assert api.sent_bytes == len(FORM) == MODEL.wire_bytes == sealed_length(len(STREAM)) < len(CONTENT)


def test_a_sealed_artifact_that_is_not_packed_arrives_in_clear(api: DeviceApi, store: ModelStore) -> None:
    fetch(api, store, MANIFEST.artifacts[1])
    assert store.part(NAME, "golden.npz").read_bytes() == b"golden"


def test_faults_of_the_link_cost_chunks_of_the_sealed_form(api: DeviceApi, store: ModelStore) -> None:
    api.faults["/artifacts/"] = [Fault(cut_after=CHUNK_BYTES + 10), Fault(flip_at=2 * CHUNK_BYTES + 5)]
    fetch(api, store)
    assert store.part(NAME, "model.onnx").read_bytes() == CONTENT
    assert len(api.paths("/artifacts/")) == 3


def test_an_installation_that_is_left_after_any_step_goes_on_from_there(api: DeviceApi, tmp_path: Path) -> None:
    api.artifacts |= FORMS
    whole = fetch(api, a_store(tmp_path / "whole"))
    for left_after in range(1, whole):
        store = a_store(tmp_path / str(left_after))
        fetch(api, store, leave_after=left_after)
        before = api.sent_bytes
        fetch(api, store)
        assert files(store) == {"model.onnx.part": len(CONTENT)}
        assert api.sent_bytes - before == max(0, len(FORM) - left_after * CHUNK_BYTES)


def test_a_kill_before_any_step_on_the_disk_ends_in_a_whole_model(
    api: DeviceApi, store: ModelStore, tmp_path: Path
) -> None:
    for number in range(1000):
        directory = tmp_path / str(number)
        directory.mkdir()
        if not killed_before_step(number, lambda directory=directory: install(api, directory)):  # type: ignore[misc]
            break
        install(api, directory)
        assert a_store(directory).inspect(NAME) is Found.INTACT
        assert (directory / "models" / NAME / "model.onnx").read_bytes() == CONTENT
        assert list((directory / "stage").iterdir()) == []
    assert number > 15


def test_the_sealed_form_goes_when_the_artifact_and_its_name_are_durable(api: DeviceApi, store: ModelStore) -> None:
    assert steps(lambda: fetch(api, store))[-4:] == [
        "open model.onnx.part",
        "sync model.onnx.part",
        f"sync {NAME}",
        "remove model.onnx~sealed.part",
    ]


def test_a_torn_artifact_is_opened_again_without_a_download(api: DeviceApi, store: ModelStore) -> None:
    store.wire_part(NAME, MODEL).write_bytes(FORM)
    store.part(NAME, "model.onnx").write_bytes(CONTENT[:-1])
    fetch(api, store)
    assert store.part(NAME, "model.onnx").read_bytes() == CONTENT
    assert api.requests == []


@pytest.mark.parametrize(
    ("form", "code", "label"),
    [
        (sealed_form(xz_stream(CONTENT[:-1])), Code.DECRYPT, "E_DECRYPT[artifact]"),
        (FORM[:-1] + bytes([FORM[-1] ^ 1]), Code.DECRYPT, "E_DECRYPT[artifact]"),
        (sealed_form(STREAM, b"o" * 32), Code.DECRYPT, "E_DECRYPT[artifact]"),
    ],
    ids=["other plaintext", "flipped", "other key"],
)
def test_a_signed_form_that_does_not_open_is_given_up_and_not_fetched_again(
    api: DeviceApi, store: ModelStore, form: bytes, code: Code, label: str
) -> None:
    entry = sealed_entry(PLAIN, form)
    assert entry.sealed
    api.artifacts[entry.sealed.sha256] = form
    for _ in range(3):
        with pytest.raises(ProtocolError) as caught:
            fetch(api, store, entry)
        assert caught.value.code is code
        assert files(store) == {"model.onnx~sealed.part": len(form)}
    failure = Failure.of_acquisition(caught.value)
    assert (failure.stage, failure.code, failure.refuses) == (FailureStage.VERIFY, label, False)
    assert api.sent_bytes == len(form)


def test_without_a_key_nothing_is_opened(api: DeviceApi, store: ModelStore) -> None:
    with pytest.raises(ProtocolError) as caught:
        fetch(api, store, key=None)
    assert caught.value.label == "E_UNWRAP[assignment]"


def test_the_largest_sealed_form_needs_room_beside_the_artifacts(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    far_more = a_store(tmp_path / "device", reserve_bytes=2 * free)
    with pytest.raises(ProtocolError) as refused:
        far_more.require_space(MANIFEST, NAME)
    needed = MANIFEST.artifact_bytes + len(FORM) + 2 * free
    assert f"needs {needed} bytes with the reserve" in str(refused.value)


class TestAnAgent:
    def test_installs_a_sealed_model_and_gets_no_plaintext(self, api: DeviceApi, tmp_path: Path) -> None:
        plain = publish_model(api, tmp_path, 1).manifest
        clear = dict(api.artifacts)
        api.artifacts.clear()
        manifest, forms = sealed_manifest(replace(plain, version=2), clear)
        api.artifacts |= forms
        release = api.images.publish(manifest)
        with an_agent(api, tmp_path) as agent:
            counter = api.assign({"digits": assigned_with_key(api, release)})
            wait_until(lambda: "healthy" in api.states(counter), what="the sealed model to be healthy")
            assert agent.answer_version() == "2"
        asked = {path.rpartition("/")[2] for path in api.paths("/artifacts/")}
        assert asked == set(forms)
        assert CONTENT_KEY.hex() not in agent.log.read_text()

    def test_says_that_it_cannot_unwrap_and_downloads_nothing(self, api: DeviceApi, tmp_path: Path) -> None:
        plain = publish_model(api, tmp_path, 1).manifest
        manifest, forms = sealed_manifest(plain, dict(api.artifacts))
        api.artifacts |= forms
        release = api.images.publish(replace(manifest, version=2))
        with an_agent(api, tmp_path):
            counter = api.assign({"digits": release.assigned()})
            wait_until(lambda: "failed" in api.states(counter), what="the report of the failure")
            failed = next(item for item in api.items() if item["state"] == "failed")
        assert (failed["code"], failed["refused"]) == ("E_UNWRAP[assignment]", False)
        assert api.paths("/artifacts/") == []
