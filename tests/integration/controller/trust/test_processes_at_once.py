"""Several processes on one machine: they start together, publish together, and lose nothing."""

import subprocess
import sys
from pathlib import Path

from tests.support.image_client import ImageClient
from tests.support.image_repositories import NOW, Place
from tests.support.manifests import manifest_bytes

PUBLISH = """
import sys
from pathlib import Path
from tests.support.image_repositories import NOW, Place
from tests.support.manifests import manifest_bytes

repository = Place(Path(sys.argv[1])).repository()
repository.initialise(NOW)
for version in range(int(sys.argv[2]), int(sys.argv[3])):
    repository.publish([manifest_bytes(version=version)], NOW)
"""
MAKE_KEYS = """
import sys
from pathlib import Path
from controller.trust.keys import KeyName, KeyStore

store = KeyStore(Path(sys.argv[1]))
print([store.signer(name).public_key.keyid for name in KeyName], store.session_secret())
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())


def test_two_processes_publish_at_once_while_a_device_refreshes(tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    place.repository().initialise(NOW)
    device = ImageClient(place.directory, tmp_path / "device")
    writers = [start(PUBLISH, place.path, 1, 16), start(PUBLISH, place.path, 16, 31)]
    while any(writer.poll() is None for writer in writers):
        device.refreshed(NOW)
    assert [writer.communicate()[0] for writer in writers] == ["", ""]
    assert [writer.returncode for writer in writers] == [0, 0]

    # One snapshot for each of the 30 commits and for the empty repository: no commit was lost or overwritten.
    assert len(list(place.metadata.glob("*.snapshot.json"))) == 31
    for version in range(1, 31):
        path = f"dev/digits/{version}/int8/manifest.json"
        assert device.download(path, NOW) == manifest_bytes(version=version)


def test_two_processes_that_initialise_at_once_make_one_repository(tmp_path: Path) -> None:
    writers = [start(PUBLISH, tmp_path / "place", number, number + 1) for number in (1, 2)]
    assert [writer.communicate()[0] for writer in writers] == ["", ""]
    place = Place(tmp_path / "place")
    assert len(list(place.metadata.glob("*.root.json"))) == 1
    device = ImageClient(place.directory, tmp_path / "device")
    assert device.download("dev/digits/1/int8/manifest.json", NOW) == manifest_bytes(version=1)
    assert device.download("dev/digits/2/int8/manifest.json", NOW) == manifest_bytes(version=2)


def test_processes_that_start_together_make_each_key_once(tmp_path: Path) -> None:
    makers = [start(MAKE_KEYS, tmp_path / "keys") for _ in range(4)]
    printed = [maker.communicate()[0] for maker in makers]
    assert [maker.returncode for maker in makers] == [0] * 4
    assert len(set(printed)) == 1
    assert printed[0]
