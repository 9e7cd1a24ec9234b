"""Artifacts that travel packed, over a real server: interrupted anywhere, damaged on the disk, and hostile."""

import errno
import hashlib
import os
import resource
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
from device_agent.protocol.manifest import CHUNK_BYTES, ArtifactEntry, Manifest
from device_agent.protocol.messages import FailureStage
from device_agent.slots import ModelStore
from device_agent.transport import Pace, Transport
from tests.support.agents import an_agent, publish_model
from tests.support.device_api import DeviceApi, Fault
from tests.support.kill_points import killed_before_step, steps
from tests.support.manifests import a_manifest
from tests.support.stored_models import a_store, entry_of, packed_entry_of, xz_stream
from tests.support.waiting import wait_until

CONTENT = bytes(Random(6).choices(range(64), k=3 * CHUNK_BYTES + 1000))
"""Becomes a quarter smaller: four chunks that travel as three."""
STREAM = xz_stream(CONTENT)
MODEL = packed_entry_of("model.onnx", CONTENT, STREAM)
GOLDEN = entry_of("golden.npz", b"golden")
MANIFEST = replace(a_manifest(), artifacts=(MODEL, GOLDEN))
NAME = hashlib.sha256(MANIFEST.to_bytes()).hexdigest()


@pytest.fixture
def store(api: DeviceApi, tmp_path: Path) -> ModelStore:
    """An empty store; the server has both artifacts, the model in its packed form alone."""
    assert MODEL.packed
    api.artifacts |= {MODEL.packed.sha256: STREAM, GOLDEN.sha256: b"golden"}
    return a_store(tmp_path / "device")


def downloader(api: DeviceApi) -> Downloader:
    limits = DownloadLimits(tries=4, backoff=Backoff(base_s=5, cap_s=300), pace=Pace(60, 0, 60))
    return Downloader(Transport(), f"{api.url}/artifacts/sha256", limits, Random(1))


def fetch(api: DeviceApi, store: ModelStore, entry: ArtifactEntry = MODEL, *, leave_after: int | None = None) -> int:
    """Fetch without waiting, for so many steps or to the end; return how many steps were taken."""
    taken = 0
    fetching = fetch_artifact(entry, NAME, downloader(api), store)
    for _ in fetching:
        taken += 1
        if taken == leave_after:
            fetching.close()
    return taken


def ranges(api: DeviceApi) -> list[str]:
    return [headers["range"] for _, path, headers in api.requests if path.startswith("/artifacts/")]


def files(store: ModelStore) -> dict[str, int]:
    """Return the lengths of the files in the stage."""
    stage = store.part(NAME, MODEL.name).parent
    return {path.name: path.stat().st_size for path in stage.iterdir()}


def install(api: DeviceApi, directory: Path, manifest: Manifest = MANIFEST) -> None:
    """Bring the model into the store with the agent's own steps."""
    store = a_store(directory)
    if store.inspect(NAME) is Found.INTACT:
        return
    store.require_space(manifest, NAME)
    for entry in manifest.artifacts:
        fetch(api, store, entry)
    store.publish(manifest, manifest.to_bytes(), NAME)


def test_a_packed_artifact_arrives_unpacked_and_only_its_packed_form_travels(api: DeviceApi, store: ModelStore) -> None:
    fetch(api, store)
    assert store.part(NAME, "model.onnx").read_bytes() == CONTENT
    assert files(store) == {"model.onnx.part": len(CONTENT)}
    assert api.sent_bytes == len(STREAM) == MODEL.wire_bytes < len(CONTENT)


def test_faults_of_the_link_cost_chunks_of_the_packed_form(api: DeviceApi, store: ModelStore) -> None:
    api.faults["/artifacts/"] = [Fault(cut_after=CHUNK_BYTES + 10), Fault(flip_at=2 * CHUNK_BYTES + 5)]
    fetch(api, store)
    assert store.part(NAME, "model.onnx").read_bytes() == CONTENT
    assert ranges(api) == ["bytes=0-", f"bytes={CHUNK_BYTES}-", f"bytes={2 * CHUNK_BYTES}-"]


def test_an_installation_that_is_left_after_any_step_goes_on_from_there(api: DeviceApi, tmp_path: Path) -> None:
    assert MODEL.packed
    api.artifacts[MODEL.packed.sha256] = STREAM
    whole = fetch(api, a_store(tmp_path / "whole"))
    assert whole >= len(MODEL.packed.chunks) + len(MODEL.chunks)
    for left_after in range(1, whole):
        store = a_store(tmp_path / str(left_after))
        fetch(api, store, leave_after=left_after)
        before = len(ranges(api))
        fetch(api, store)
        assert files(store) == {"model.onnx.part": len(CONTENT)}
        assert store.part(NAME, "model.onnx").read_bytes() == CONTENT
        here = min(left_after * CHUNK_BYTES, len(STREAM))
        assert ranges(api)[before:] == ([f"bytes={here}-"] if here < len(STREAM) else [])


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


def test_a_kill_before_the_artifact_is_durable_leaves_its_packed_form(
    api: DeviceApi, store: ModelStore, tmp_path: Path
) -> None:
    kept = []
    for number in range(1000):
        directory = tmp_path / str(number)
        directory.mkdir()
        if not killed_before_step(number, lambda directory=directory: fetch(api, a_store(directory))):  # type: ignore[misc]
            break
        asked = len(ranges(api))
        fetch(api, a_store(directory))
        kept.append(len(ranges(api)) == asked)
    # Once it is all there, nothing is ever asked for again.
    assert kept == sorted(kept)
    assert kept.count(True) >= 4


def test_the_packed_form_goes_when_the_artifact_and_its_name_are_durable(api: DeviceApi, store: ModelStore) -> None:
    done = steps(lambda: fetch(api, store))
    assert done[-4:] == [
        "open model.onnx.part",
        "sync model.onnx.part",
        f"sync {NAME}",
        "remove model.onnx~packed.part",
    ]


@pytest.mark.parametrize(
    "torn",
    [b"", CONTENT[:1000], CONTENT[:-1], bytes(len(CONTENT)), CONTENT + b"more"],
    ids=["empty", "begun", "almost", "zeros", "longer"],
)
def test_a_torn_artifact_is_unpacked_again_without_a_download(api: DeviceApi, store: ModelStore, torn: bytes) -> None:
    store.packed_part(NAME, "model.onnx").write_bytes(STREAM)
    store.part(NAME, "model.onnx").write_bytes(torn)
    fetch(api, store)
    assert store.part(NAME, "model.onnx").read_bytes() == CONTENT
    assert files(store) == {"model.onnx.part": len(CONTENT)}
    assert api.requests == []


def test_a_whole_artifact_needs_neither_a_download_nor_its_packed_form(api: DeviceApi, store: ModelStore) -> None:
    store.packed_part(NAME, "model.onnx").write_bytes(b"left over")
    store.part(NAME, "model.onnx").write_bytes(CONTENT)
    assert fetch(api, store) == 0
    assert files(store) == {"model.onnx.part": len(CONTENT)}
    assert api.requests == []


def test_a_packed_form_that_was_damaged_on_the_disk_costs_the_chunks_from_there_on(
    api: DeviceApi, store: ModelStore
) -> None:
    damaged = bytearray(STREAM)
    damaged[2 * CHUNK_BYTES + 9] ^= 1
    store.packed_part(NAME, "model.onnx").write_bytes(damaged)
    fetch(api, store)
    assert store.part(NAME, "model.onnx").read_bytes() == CONTENT
    assert ranges(api) == [f"bytes={2 * CHUNK_BYTES}-"]


@pytest.mark.parametrize(
    ("stream", "code", "stage"),
    [
        (xz_stream(CONTENT[:-1] + b"?"), Code.HASH_MISMATCH, FailureStage.VERIFY),
        (xz_stream(CONTENT[:-1]), Code.HASH_MISMATCH, FailureStage.VERIFY),
        (STREAM[:-20], Code.MALFORMED, FailureStage.VERIFY),
        (STREAM + b"more", Code.MALFORMED, FailureStage.VERIFY),
        (xz_stream(bytes(100_000_000)), Code.ENDLESS_DATA, FailureStage.DOWNLOAD),
    ],
    ids=["other bytes", "too little", "cut", "followed", "bomb"],
)
def test_a_signed_packed_form_that_does_not_give_the_artifact_is_given_up_and_not_fetched_again(
    api: DeviceApi, store: ModelStore, stream: bytes, code: Code, stage: FailureStage
) -> None:
    entry = packed_entry_of("model.onnx", CONTENT, stream)
    assert entry.packed
    api.artifacts[entry.packed.sha256] = stream
    for _ in range(3):
        with pytest.raises(ProtocolError) as caught:
            fetch(api, store, entry)
        assert caught.value.code is code
        assert files(store) == {"model.onnx~packed.part": len(stream)}
    failure = Failure.of_acquisition(caught.value)
    assert (failure.stage, failure.refuses) == (stage, False)
    assert api.sent_bytes == len(stream)


def test_a_bomb_never_takes_more_disk_than_the_artifact(api: DeviceApi, store: ModelStore) -> None:
    bomb = xz_stream(bytes(100_000_000))
    entry = packed_entry_of("model.onnx", bytes(2 * CHUNK_BYTES), bomb)
    store.packed_part(NAME, "model.onnx").write_bytes(bomb)
    seen: list[int] = []
    fetching = fetch_artifact(entry, NAME, downloader(api), store)
    with pytest.raises(ProtocolError) as caught:
        seen.extend(files(store)["model.onnx.part"] for _ in fetching)
    assert caught.value.code is Code.ENDLESS_DATA
    assert seen == [CHUNK_BYTES, 2 * CHUNK_BYTES]


def test_a_disk_that_fills_while_unpacking_keeps_the_packed_form_for_the_next_attempt(
    api: DeviceApi, store: ModelStore
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(STREAM) + 100, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
            fetch(api, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    failure = Failure.of_acquisition(caught.value)
    assert (failure.stage, failure.code, failure.refuses) == (FailureStage.DOWNLOAD, "E_NO_SPACE", False)
    fetch(api, store)
    assert store.part(NAME, "model.onnx").read_bytes() == CONTENT
    assert ranges(api) == ["bytes=0-"]


def test_an_agent_installs_a_model_that_travels_packed(api: DeviceApi, tmp_path: Path) -> None:
    plain = publish_model(api, tmp_path, 1).manifest
    golden, model = sorted(plain.artifacts, key=lambda entry: entry.name)
    stream = xz_stream(api.artifacts[golden.sha256])
    packed = packed_entry_of(golden.name, api.artifacts.pop(golden.sha256), stream)
    assert packed.packed
    api.artifacts[packed.packed.sha256] = stream
    release = api.images.publish(replace(plain, version=2, artifacts=(packed, model)))
    with an_agent(api, tmp_path) as agent:
        counter = api.assign({"digits": release.assigned()})
        wait_until(lambda: "healthy" in api.states(counter), what="the packed model to be healthy")
        assert agent.answer_version() == "2"
        asked = api.paths("/artifacts/")
    assert asked == [f"/artifacts/sha256/{digest}" for digest in (packed.packed.sha256, model.sha256)]
