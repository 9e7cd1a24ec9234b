import multiprocessing
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Targets

from controller.trust.ceremonies import single_operator
from controller.trust.ceremonies.ceremony import start
from controller.trust.ceremonies.role_changes import DocumentName, RoleChanges
from controller.trust.custody.keys import OFFLINE, KeyName, KeyStore
from controller.trust.errors import SigningKeyError
from tests.support.image_repositories import Crash, CrashingWriter
from tests.support.key_holders import NOW, Controller, Holders, sign_by


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    controller = Controller(tmp_path_factory.mktemp("alone") / "controller")
    single_operator.ensure(controller.tuf_dir, controller.offline_keys, controller.signer(), NOW)
    return controller


@pytest.fixture
def controller(alone: Controller, tmp_path: Path) -> Controller:
    return alone.copy_to(tmp_path / "controller")


def _ensure(controller: Controller, days: int) -> None:
    now = NOW + timedelta(days=days)
    single_operator.ensure(controller.tuf_dir, controller.offline_keys, controller.signer(now), now)


def _versions(controller: Controller) -> dict[DocumentName, int]:
    return {name: controller.trust().document(name).version for name in DocumentName}


def test_the_first_start_makes_roots_with_thresholds_of_one_and_keys_that_only_their_owner_may_read(
    alone: Controller,
) -> None:
    trust = alone.trust()

    shapes = {role: (trust.role(role).threshold, len(trust.role(role).keys)) for role in trust.roles()}
    assert shapes == dict.fromkeys(DocumentName, (1, 1))
    assert alone.repository().versions()["root"] == 1
    modes = {path.stat().st_mode & 0o777 for path in alone.offline_keys.glob("*.pem")}
    assert modes == {0o600}


def test_another_start_changes_nothing(controller: Controller) -> None:
    before = _versions(controller)

    _ensure(controller, days=1)

    assert _versions(controller) == before


def test_roots_and_targets_are_renewed_sixty_days_before_they_expire(controller: Controller) -> None:
    before = _versions(controller)
    _ensure(controller, days=304)
    assert _versions(controller) == before

    _ensure(controller, days=306)

    after = _versions(controller)
    assert all(after[name] > before[name] for name in DocumentName)
    _ensure(controller, days=307)
    assert _versions(controller) == after


def test_a_model_gets_its_release_role_once(controller: Controller) -> None:
    later = NOW + timedelta(hours=1)
    for model in ("digits", "digits", "faces"):
        signer = controller.signer(later)
        single_operator.ensure_release_role(controller.tuf_dir, controller.offline_keys, signer, model, later)

    trust = controller.trust()
    key = single_operator.release_signer(controller.offline_keys).public_key
    assert set(trust.roles()) == {*DocumentName, "prod-digits", "prod-faces"}
    assert [held.keyid for held in trust.role("prod-digits").keys] == [key.keyid]


def test_the_local_release_key_signs_what_its_role_asks_for(controller: Controller) -> None:
    later = NOW + timedelta(hours=1)
    signer = controller.signer(later)
    single_operator.ensure_release_role(controller.tuf_dir, controller.offline_keys, signer, "digits", later)
    document = Metadata(Targets(version=1, expires=later + timedelta(days=90)))

    single_operator.sign_release(controller.offline_keys, document)

    controller.trust().image_targets.verify_delegate("prod-digits", document.signed_bytes, document.signatures)


def test_a_release_role_without_any_trust_is_refused(tmp_path: Path) -> None:
    controller = Controller(tmp_path / "empty")

    with pytest.raises(SigningKeyError, match="no trust yet"):
        single_operator.ensure_release_role(
            controller.tuf_dir, controller.offline_keys, controller.signer(), "digits", NOW
        )


def test_once_a_ceremony_gave_a_root_to_people_it_is_not_renewed_any_more(
    controller: Controller, tmp_path: Path
) -> None:
    holders, later = Holders(), NOW + timedelta(hours=1)
    changes = RoleChanges(controller.trust()).set_role("image-root", holders.keys("alice", "bob", "carol"), 2)
    folder = tmp_path / "stick"
    ceremony = start(folder, changes.documents(later), controller.tuf_dir, "the image root goes to three people")
    local = KeyStore(controller.offline_keys, OFFLINE).signer(KeyName.IMAGE_ROOT)
    for document in ceremony.documents.values():
        document.sign(local, append=True)
        (folder / "documents" / "image-root.json").write_bytes(document.to_bytes())
    sign_by(holders, folder, "alice", "carol", now=later)
    controller.finish(folder, later)
    before = _versions(controller)

    _ensure(controller, days=330)

    assert _versions(controller) == before


@pytest.mark.parametrize(("days", "crashes"), [(0, (1, 100, 261)), (306, range(8))])
def test_a_start_that_crashes_at_a_file_is_completed_by_the_next(
    alone: Controller, tmp_path: Path, days: int, crashes: Iterable[int]
) -> None:
    now = NOW + timedelta(days=days)
    crashed = 0
    # The first start writes 256 bins, which are all alike: it crashes at one of them.
    for crashes_after in crashes:
        path = tmp_path / str(crashes_after)
        controller = Controller(path) if days == 0 else alone.copy_to(path)
        write = CrashingWriter(crashes_after)
        try:
            single_operator.ensure(controller.tuf_dir, controller.offline_keys, controller.signer(now), now, write)
        except Crash:
            crashed += 1
            _ensure(controller, days)
        assert not [
            name for name in DocumentName if controller.trust().document(name).expires - now < timedelta(days=364)
        ]
        assert controller.repository(now).versions()["root"] == (1 if days == 0 else 2)
    assert crashed >= 3


def _start(path: Path) -> None:
    controller = Controller(path)
    single_operator.ensure(controller.tuf_dir, controller.offline_keys, controller.signer(), NOW)


def test_processes_that_start_at_once_make_one_trust(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_start, args=(tmp_path / "c",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    controller = Controller(tmp_path / "c")
    assert controller.repository().versions()["root"] == 1
    assert len(list((controller.tuf_dir / "metadata").glob("*.root.json"))) == 1
