"""Downloads against a real server that cuts, flips, lies and stalls."""

import errno
import os
import resource
from pathlib import Path
from random import Random

import pytest

from device_agent.downloader import Downloader, DownloadLimits
from device_agent.failure import Failure
from device_agent.polling import Backoff
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import CHUNK_BYTES, ArtifactEntry
from device_agent.protocol.messages import FailureStage
from device_agent.transport import Pace, Transport
from tests.support.attacks import Group, plays
from tests.support.device_api import DeviceApi, Fault
from tests.support.stored_models import entry_of

CONTENT = Random(5).randbytes(3 * CHUNK_BYTES + 1000)
ENTRY = entry_of("model.onnx", CONTENT)
FAST = Pace(deadline_s=60, minimum_bytes_s=0, grace_s=60)


@pytest.fixture
def path(api: DeviceApi, tmp_path: Path) -> Path:
    """The part file; the server has the artifact."""
    api.artifacts[ENTRY.sha256] = CONTENT
    return tmp_path / "model.onnx.part"


def downloader(api: DeviceApi, *, pace: Pace = FAST, tries: int = 4) -> Downloader:
    limits = DownloadLimits(tries=tries, backoff=Backoff(base_s=5, cap_s=300), pace=pace)
    return Downloader(Transport(), f"{api.url}/artifacts/sha256", limits, Random(1))


def download(
    api: DeviceApi, path: Path, *faults: Fault, entry: ArtifactEntry = ENTRY, pace: Pace = FAST
) -> list[float]:
    """Download to the end without waiting; return the waits that were asked for."""
    api.faults["/artifacts/"] = list(faults)
    return [wait for wait in downloader(api, pace=pace).fetch(entry, path) if wait > 0]


def ranges(api: DeviceApi) -> list[str]:
    return [headers["range"] for _, path, headers in api.requests if path.startswith("/artifacts/")]


def test_a_whole_artifact_comes_in_one_request(api: DeviceApi, path: Path) -> None:
    assert download(api, path) == []
    assert path.read_bytes() == CONTENT
    assert ranges(api) == ["bytes=0-"]
    headers = api.requests[-1][2]
    assert (headers["accept-encoding"], headers["if-range"]) == ("identity", f'"sha256-{ENTRY.sha256}"')


def test_an_empty_artifact_needs_no_request(api: DeviceApi, path: Path) -> None:
    assert download(api, path, entry=entry_of("empty", b"")) == []
    assert path.read_bytes() == b""
    assert api.requests == []


def test_cut_connections_cost_at_most_a_chunk_each(api: DeviceApi, path: Path) -> None:
    cuts = [Fault(cut_after=CHUNK_BYTES + 10), Fault(cut_after=10), Fault(cut_after=2 * CHUNK_BYTES - 1)]
    waits = download(api, path, *cuts)
    assert path.read_bytes() == CONTENT
    assert ranges(api) == ["bytes=0-", *[f"bytes={CHUNK_BYTES}-"] * 2, f"bytes={2 * CHUNK_BYTES}-"]
    assert len(waits) == 3


def test_a_flipped_bit_is_noticed_and_only_its_chunk_is_fetched_again(api: DeviceApi, path: Path) -> None:
    download(api, path, Fault(flip_at=2 * CHUNK_BYTES + 5))
    assert path.read_bytes() == CONTENT
    assert ranges(api) == ["bytes=0-", f"bytes={2 * CHUNK_BYTES}-"]


def test_a_server_that_ignores_ranges_is_read_from_its_beginning(api: DeviceApi, path: Path) -> None:
    download(api, path, Fault(cut_after=CHUNK_BYTES + 10), Fault(ignore_range=True))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("lie", ["bytes 0-9/10", f"bytes 1-{len(CONTENT) - 1}/{len(CONTENT)}", "none"])
def test_a_content_range_that_is_not_what_was_asked_for_is_not_used(api: DeviceApi, path: Path, lie: str) -> None:
    download(api, path, Fault(content_range=lie))
    assert path.read_bytes() == CONTENT
    assert ranges(api) == ["bytes=0-", "bytes=0-"]


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(api: DeviceApi, path: Path) -> None:
    (wait,) = download(api, path, Fault(status=503, retry_after="120"))
    assert 120 <= wait <= 240
    assert path.read_bytes() == CONTENT


def test_a_part_file_is_believed_only_as_far_as_its_hashes_go(api: DeviceApi, path: Path) -> None:
    torn = bytearray(CONTENT[: 2 * CHUNK_BYTES + 700])
    torn[CHUNK_BYTES + 3 : CHUNK_BYTES + 90] = bytes(87)
    path.write_bytes(torn)
    download(api, path)
    assert path.read_bytes() == CONTENT
    assert ranges(api) == [f"bytes={CHUNK_BYTES}-"]


def test_a_part_file_longer_than_the_artifact_is_cut_to_it(api: DeviceApi, path: Path) -> None:
    path.write_bytes(CONTENT + b"more")
    assert download(api, path) == []
    assert path.read_bytes() == CONTENT
    assert api.requests == []


def test_a_download_that_is_left_keeps_what_it_has(api: DeviceApi, path: Path) -> None:
    steps = downloader(api).fetch(ENTRY, path)
    next(steps)
    steps.close()
    assert path.read_bytes() == CONTENT[:CHUNK_BYTES]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(cut_after=100), Code.NETWORK),
        (Fault(flip_at=5), Code.HASH_MISMATCH),
        (Fault(status=404), Code.HTTP),
        (Fault(status=302), Code.HTTP),
    ],
)
def test_a_download_without_progress_is_given_up_with_its_reason(
    api: DeviceApi, path: Path, fault: Fault, code: Code
) -> None:
    with pytest.raises(ProtocolError) as caught:
        download(api, path, *[fault] * 4)
    assert caught.value.code is code
    assert len(ranges(api)) == 4


def test_progress_forgives_earlier_failures(api: DeviceApi, path: Path) -> None:
    stuck, moving = Fault(cut_after=10), Fault(cut_after=CHUNK_BYTES + 10)
    download(api, path, *[stuck] * 3, moving, *[stuck] * 2, moving, *[stuck] * 2)
    assert path.read_bytes() == CONTENT


@plays(Group.TRANSPORT, "an artifact trickles in", "it is cut off and resumed")
def test_a_trickle_is_cut_off_instead_of_being_waited_for(api: DeviceApi, path: Path) -> None:
    pace = Pace(deadline_s=60, minimum_bytes_s=10_000, grace_s=0.05)
    download(api, path, Fault(byte_every_s=0.02), pace=pace)
    assert path.read_bytes() == CONTENT
    assert len(ranges(api)) == 2


def test_a_server_that_is_gone_is_a_failure_of_the_network(path: Path) -> None:
    limits = DownloadLimits(tries=2, backoff=Backoff(5, 300), pace=FAST)
    gone = Downloader(Transport(), "http://127.0.0.1:9/artifacts/sha256", limits, Random(1))
    with pytest.raises(ProtocolError) as caught:
        list(gone.fetch(ENTRY, path))
    assert caught.value.code is Code.NETWORK


@plays(Group.LOCAL, "the disk takes no more in the middle of a download; what came stays, and it resumes", "E_NO_SPACE")
def test_a_disk_that_takes_no_more_ends_the_download_at_once(api: DeviceApi, path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_BYTES + 100, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
            download(api, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    failure = Failure.of_acquisition(caught.value)
    assert (failure.stage, failure.code, failure.refuses) == (FailureStage.DOWNLOAD, "E_NO_SPACE", False)
    assert len(ranges(api)) == 1
    download(api, path)
    assert path.read_bytes() == CONTENT
    assert ranges(api)[-1] == f"bytes={CHUNK_BYTES}-"
