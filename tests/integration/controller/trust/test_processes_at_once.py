"""Several processes on one machine: they start together, publish together, and lose nothing."""

import subprocess
import sys
from pathlib import Path

from tests.support.image_client import ImageClient
from tests.support.image_repositories import NOW, Place, root_document, targets_document
from tests.support.manifests import manifest_bytes

PUBLISH = """
import sys
from pathlib import Path
from tests.support.image_repositories import NOW, Place
from tests.support.manifests import manifest_bytes

repository = Place(Path(sys.argv[1])).repository()
for version in range(int(sys.argv[2]), int(sys.argv[3])):
    repository.publish([manifest_bytes(version=version)], NOW)
"""
RELEASE = """
import sys
from pathlib import Path
from tests.support.image_repositories import NOW, Place
from tests.support.manifests import manifest_bytes

for version in range(int(sys.argv[2]), int(sys.argv[3])):
    Place(Path(sys.argv[1])).release([manifest_bytes(version=version)], NOW)
"""
INSTALL = """
import sys
from pathlib import Path
from tests.support.image_repositories import NOW, Place

place = Place(Path(sys.argv[1]))
root, targets = (Path(path).read_bytes() for path in sys.argv[2:])
place.repository().install(root, targets, NOW)
"""
MAKE_KEYS = """
import sys
from pathlib import Path
from controller.trust.custody.keys import KeyName, KeyStore, session_secret

store = KeyStore(Path(sys.argv[1]))
print([store.signer(name).public_key.keyid for name in KeyName], session_secret(Path(sys.argv[1])))
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())


def finished(*processes: subprocess.Popen[str]) -> None:
    assert [process.communicate()[0] for process in processes] == [""] * len(processes)
    assert [process.returncode for process in processes] == [0] * len(processes)


def test_three_processes_publish_and_release_at_once_while_a_device_refreshes(tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    place.install()
    device = ImageClient(place.directory, tmp_path / "device")
    seen = [device.refreshed(NOW)._trusted_set.snapshot.version]
    writers = [
        start(PUBLISH, place.path, 1, 11),
        start(PUBLISH, place.path, 11, 21),
        start(RELEASE, place.path, 1, 6),
    ]
    while any(writer.poll() is None for writer in writers):
        seen.append(device.refreshed(NOW)._trusted_set.snapshot.version)
    finished(*writers)

    # One snapshot for each of the 25 commits and for the empty repository: no commit was lost or overwritten.
    numbers = sorted(int(path.name.split(".")[0]) for path in place.metadata.glob("*.snapshot.json"))
    assert len(numbers) == 26
    assert seen == sorted(seen)
    assert set(seen) <= set(numbers)
    for version in range(1, 21):
        path = f"dev/digits/{version}/int8/manifest.json"
        assert device.download(path, NOW) == manifest_bytes(version=version)
    for version in range(1, 6):
        path = f"prod/digits/{version}/int8/manifest.json"
        assert device.download(path, NOW) == manifest_bytes(version=version)
    assert not list(place.directory.rglob(".*.new"))


def test_two_processes_that_install_at_once_make_one_repository(tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    documents = tmp_path / "root", tmp_path / "targets"
    documents[0].write_bytes(root_document(place.offline, place.signer(), NOW))
    documents[1].write_bytes(targets_document(place.offline, place.signer(), NOW))
    finished(*(start(INSTALL, place.path, *documents) for _ in range(2)))
    assert len(list(place.metadata.glob("*.root.json"))) == 1
    assert len(list(place.metadata.glob("*.snapshot.json"))) == 1
    ImageClient(place.directory, tmp_path / "device").refreshed(NOW)


def test_processes_that_start_together_make_each_key_once(tmp_path: Path) -> None:
    makers = [start(MAKE_KEYS, tmp_path / "keys") for _ in range(4)]
    printed = [maker.communicate()[0] for maker in makers]
    assert [maker.returncode for maker in makers] == [0] * 4
    assert len(set(printed)) == 1
    assert printed[0]
