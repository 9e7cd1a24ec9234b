import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from controller.trust.ceremonies.ceremony import collect, start
from controller.trust.ceremonies.ceremony_folder import CeremonyRefused, read_ceremony
from controller.trust.ceremonies.ceremony_summary import lines
from controller.trust.ceremonies.role_changes import DocumentName, RoleChanges, RoleKeys, new_trust
from controller.trust.custody.keys import KeyName
from controller.trust.errors import LintCode, TrustLint
from tests.support.image_repositories import Crash, CrashingWriter
from tests.support.key_holders import NOW, Controller, Holders, plan_for, sign_by

LATER = NOW + timedelta(hours=1)
TOMORROW = NOW + timedelta(days=1)
EVERYBODY = ("alice-image", "bob-image", "alice-targets", "alice-director", "carol-director")


@pytest.fixture(scope="session")
def holders() -> Holders:
    return Holders()


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory, holders: Holders) -> Controller:
    """An installation whose first trust three people made."""
    controller = Controller(tmp_path_factory.mktemp("founded") / "controller")
    plan = plan_for(holders, controller.online(), digits=RoleKeys(holders.keys("rita", "sam"), 1))
    folder = controller.path / "first"
    start(folder, new_trust(plan, NOW), controller.tuf_dir, "first trust")
    sign_by(holders, folder, *EVERYBODY)
    controller.finish(folder)
    return controller


@pytest.fixture
def controller(founded: Controller, tmp_path: Path) -> Controller:
    return founded.copy_to(tmp_path / "controller")


@pytest.fixture
def folder(controller: Controller, holders: Holders, tmp_path: Path) -> Path:
    """A ceremony, not yet signed, that gives bob's root key to dora."""
    changes = RoleChanges(controller.trust()).revoke(holders.key("bob-image").keyid, holders.key("dora-image"))
    start(tmp_path / "stick", changes.documents(LATER), controller.tuf_dir, "dora follows bob")
    return tmp_path / "stick"


def test_a_first_ceremony_brings_the_trust_of_its_plan(founded: Controller, holders: Holders) -> None:
    trust = founded.trust()

    assert trust.role("image-root").threshold == 2
    assert trust.role("prod-digits").keys == holders.keys("rita", "sam")
    assert founded.repository().versions()["root"] == 1


def test_a_first_ceremony_without_all_its_documents_is_refused(holders: Holders, tmp_path: Path) -> None:
    controller = Controller(tmp_path / "controller")
    documents = dict(new_trust(plan_for(holders, controller.online()), NOW))
    start(tmp_path / "stick", documents, controller.tuf_dir, "first trust")
    (tmp_path / "stick" / "documents" / "director-root.json").unlink()

    with pytest.raises(CeremonyRefused, match="has 3 documents"):
        read_ceremony(tmp_path / "stick").check(NOW)


def test_the_summary_says_what_changes_and_its_page_carries_every_fingerprint(folder: Path, holders: Holders) -> None:
    ceremony = read_ceremony(folder)

    told = "\n".join(lines(ceremony))
    assert "image-root version 1 -> 2" in told
    assert f"image-root gets the key {holders.key('dora-image').keyid[:16]}" in told
    assert f"image-root loses the key {holders.key('bob-image').keyid[:16]}" in told
    page = (folder / "CEREMONY.md").read_text()
    assert all(holders.key(f"{who}-image").keyid in page for who in ("alice", "bob", "carol", "dora"))
    assert ceremony.pin in page


def test_a_change_is_in_force_when_the_old_and_the_new_holders_have_signed(
    controller: Controller, folder: Path, holders: Holders
) -> None:
    sign_by(holders, folder, "alice-image", "bob-image", "dora-image", now=LATER)

    finished = controller.finish(folder, LATER)

    assert finished.versions == {DocumentName.IMAGE_ROOT: 2}
    keyids = {holders.key(f"{who}-image").keyid for who in ("alice", "carol", "dora")}
    assert {key.keyid for key in controller.trust().role("image-root").keys} == keyids
    assert set(finished.signed_by[DocumentName.IMAGE_ROOT]) > {holders.key("dora-image").keyid}


def test_the_status_names_who_has_not_signed(folder: Path, holders: Holders) -> None:
    sign_by(holders, folder, "bob-image", now=LATER)

    present, new = read_ceremony(folder).seats()
    assert (present.role, present.missing, present.signed) == ("image-root (present)", 1, holders.keys("bob-image"))
    assert (new.role, new.missing, new.signed) == ("image-root (new)", 2, ())


@pytest.mark.parametrize("who", [(), ("alice-image",), ("bob-image", "dora-image"), ("alice-image", "dora-image")])
def test_a_ceremony_without_enough_signatures_of_both_roots_is_refused(
    controller: Controller, folder: Path, holders: Holders, who: tuple[str, ...]
) -> None:
    sign_by(holders, folder, *who, now=LATER)

    with pytest.raises(CeremonyRefused, match="signatures are missing"):
        controller.finish(folder, LATER)
    assert controller.repository(LATER).versions()["root"] == 1


def test_a_signature_twice_counts_once(controller: Controller, folder: Path, holders: Holders) -> None:
    sign_by(holders, folder, "alice-image", "alice-image", "bob-image", now=LATER)

    with pytest.raises(CeremonyRefused, match=r"image-root needs 1 more of image-root \(new\)"):
        controller.finish(folder, LATER)


@pytest.mark.parametrize("who", ["stranger", "alice-director", "rita"])
def test_a_key_without_a_seat_signs_nothing(folder: Path, holders: Holders, who: str) -> None:
    before = (folder / "documents" / "image-root.json").read_bytes()

    with pytest.raises(CeremonyRefused, match="has no seat"):
        sign_by(holders, folder, who, now=LATER)
    assert (folder / "documents" / "image-root.json").read_bytes() == before


def _edit(folder: Path, edit: Callable[[Root], object]) -> None:
    path = folder / "documents" / "image-root.json"
    document = Metadata[Root].from_bytes(path.read_bytes())
    edit(document.signed)
    path.write_bytes(document.to_bytes())


def test_a_document_that_was_changed_after_a_signature_is_refused(
    controller: Controller, folder: Path, holders: Holders
) -> None:
    sign_by(holders, folder, "alice-image", now=LATER)
    _edit(folder, lambda root: root.add_key(holders.key("thief"), "root"))

    with pytest.raises(CeremonyRefused, match="was changed after"):
        sign_by(holders, folder, "bob-image", now=LATER)
    with pytest.raises(CeremonyRefused, match="was changed after"):
        controller.finish(folder, LATER)


def test_a_document_that_was_changed_before_anybody_signed_shows_what_it_does(folder: Path, holders: Holders) -> None:
    _edit(folder, lambda root: root.add_key(holders.key("thief"), "root"))

    assert f"image-root gets the key {holders.key('thief').keyid[:16]}" in "\n".join(lines(read_ceremony(folder)))


def _other_material(root: Root, holders: Holders) -> None:
    root.keys[holders.key("alice-image").keyid].keyval["public"] = holders.key("thief").keyval["public"]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda root, _: setattr(root, "version", 3), "does not follow 1"),
        (lambda root, _: setattr(root, "version", 1), "does not follow 1"),
        (lambda root, _: setattr(root, "expires", NOW - timedelta(days=1)), "is the clock of this machine right"),
        (lambda root, _: setattr(root, "expires", NOW + timedelta(days=4000)), "not within the next 365 days"),
        (lambda root, _: setattr(root, "consistent_snapshot", False), "differs in more than its roles"),
        (lambda root, _: root.unrecognized_fields.update(note="x"), "differs in more than its roles"),
        (_other_material, "puts another key under the id"),
    ],
)
def test_a_document_that_does_not_follow_what_is_in_force_is_not_signed(
    folder: Path, holders: Holders, edit: Callable[[Root, Holders], object], reason: str
) -> None:
    _edit(folder, lambda root: edit(root, holders))

    with pytest.raises(CeremonyRefused, match=reason):
        sign_by(holders, folder, "alice-image", now=LATER)


def test_a_threshold_below_what_a_root_needs_is_not_signed(folder: Path, holders: Holders) -> None:
    _edit(folder, lambda root: setattr(root.roles["root"], "threshold", 1))

    with pytest.raises(TrustLint) as refused:
        sign_by(holders, folder, "alice-image", now=LATER)
    assert refused.value.code == LintCode.THRESHOLD


def test_a_threshold_that_falls_is_called_weaker(controller: Controller, holders: Holders, tmp_path: Path) -> None:
    for number, threshold in enumerate((2, 1)):
        changes = RoleChanges(controller.trust()).set_role("prod-digits", holders.keys("rita", "sam"), threshold)
        now = LATER + timedelta(hours=number)
        stick = tmp_path / f"stick{number}"
        ceremony = start(stick, changes.documents(now), controller.tuf_dir, "threshold")
        sign_by(holders, stick, "bob-targets", now=now)
        controller.finish(stick, now)

    assert "WEAKER: prod-digits needs 1 signatures instead of 2" in list(lines(ceremony))


def test_a_chain_that_was_tampered_with_proves_nothing(folder: Path, holders: Holders) -> None:
    path = folder / "previous" / "image-root" / "1.root.json"
    document = Metadata[Root].from_bytes(path.read_bytes())
    document.signed.add_key(holders.key("thief"), "root")
    path.write_bytes(document.to_bytes())

    with pytest.raises(CeremonyRefused, match="cannot be proven"):
        read_ceremony(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "ceremony.json").unlink(),
        lambda folder: (folder / "ceremony.json").write_text("[]"),
        lambda folder: (folder / "ceremony.json").write_text(json.dumps({"schema": 2})),
        lambda folder: (folder / "documents" / "image-root.json").write_text("{" * 5000),
        lambda folder: (folder / "documents" / "image-root.json").write_bytes(b" " * 600_000),
        lambda folder: (folder / "documents" / "image-root.json").write_bytes(Metadata(Targets()).to_bytes()),
        lambda folder: shutil.rmtree(folder / "previous" / "director-root"),
    ],
)
def test_a_folder_that_is_damaged_is_refused(folder: Path, damage: Callable[[Path], object]) -> None:
    damage(folder)

    with pytest.raises(CeremonyRefused):
        read_ceremony(folder)


def test_a_ceremony_from_before_another_one_is_refused(
    controller: Controller, folder: Path, holders: Holders, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    changes = RoleChanges(controller.trust()).renew(DocumentName.IMAGE_ROOT)
    start(other, changes.documents(LATER), controller.tuf_dir, "renewal")
    sign_by(holders, other, "alice-image", "bob-image", now=LATER)
    controller.finish(other, LATER)
    sign_by(holders, folder, "alice-image", "bob-image", "dora-image", now=LATER)

    with pytest.raises(CeremonyRefused, match="start anew"):
        controller.finish(folder, LATER)
    assert holders.key("dora-image") not in controller.trust().role("image-root").keys


def test_an_old_ceremony_that_is_replayed_is_refused(
    controller: Controller, folder: Path, holders: Holders, tmp_path: Path
) -> None:
    sign_by(holders, folder, "alice-image", "bob-image", "dora-image", now=LATER)
    controller.finish(folder, LATER)
    back = tmp_path / "back"
    changes = RoleChanges(controller.trust()).revoke(holders.key("dora-image").keyid, holders.key("bob-image"))
    start(back, changes.documents(LATER), controller.tuf_dir, "back to bob")
    sign_by(holders, back, "alice-image", "carol-image", now=LATER)
    controller.finish(back, LATER)

    with pytest.raises(CeremonyRefused, match="version 3 of image-root is in force"):
        controller.finish(folder, LATER)


def test_a_ceremony_that_is_finished_twice_changes_nothing_the_second_time(
    controller: Controller, folder: Path, holders: Holders
) -> None:
    sign_by(holders, folder, "alice-image", "bob-image", "dora-image", now=LATER)
    controller.finish(folder, LATER)
    versions = controller.repository(LATER).versions()

    controller.finish(folder, LATER)

    assert controller.repository(LATER).versions() == versions


def test_a_folder_that_holds_something_is_not_used_for_a_ceremony(controller: Controller, folder: Path) -> None:
    changes = RoleChanges(controller.trust()).renew(DocumentName.IMAGE_ROOT)

    with pytest.raises(CeremonyRefused, match="is not empty"):
        start(folder, changes.documents(LATER), controller.tuf_dir, "again")


def test_a_change_that_changes_no_document_needs_no_ceremony(controller: Controller, tmp_path: Path) -> None:
    with pytest.raises(CeremonyRefused, match="changes no document"):
        start(tmp_path / "stick", {}, controller.tuf_dir, "nothing")


def test_a_key_that_the_signer_does_not_have_is_not_installed(
    controller: Controller, holders: Holders, tmp_path: Path
) -> None:
    changes = RoleChanges(controller.trust()).replace_online_key(KeyName.DIRECTOR, holders.key("foreign-director"))
    start(tmp_path / "s", changes.documents(LATER), controller.tuf_dir, "director", rotates=(KeyName.DIRECTOR,))
    sign_by(holders, tmp_path / "s", "alice-director", "bob-director", now=LATER)

    with pytest.raises(CeremonyRefused, match="rotate it anew"):
        controller.finish(tmp_path / "s", LATER)
    assert controller.trust().director_root.version == 1


def test_a_finish_that_crashes_at_any_file_is_completed_by_the_next(
    founded: Controller, holders: Holders, tmp_path: Path
) -> None:
    """Both roots and the targets change at once, among them the keys of targets and of the director."""
    next_director = founded.copy_to(tmp_path / "prepared").online_keys().prepare_next(KeyName.DIRECTOR)
    prepared = Controller(tmp_path / "prepared")
    changes = RoleChanges(prepared.trust()).replace_online_key(KeyName.DIRECTOR, next_director)
    changes.set_role("image-targets", holders.keys("erin-targets"), 1)
    stick = tmp_path / "stick"
    start(stick, changes.documents(LATER), prepared.tuf_dir, "all", rotates=(KeyName.DIRECTOR,))
    sign_by(holders, stick, "alice-image", "carol-image", "erin-targets", "alice-director", "bob-director", now=LATER)

    for crashes_after in range(100):
        controller = prepared.copy_to(tmp_path / f"crash-{crashes_after}")
        try:
            controller.finish(stick, LATER, CrashingWriter(crashes_after))
        except Crash:
            controller.finish(stick, LATER)
        else:
            break
        trust = controller.trust()
        assert (trust.image_root.version, trust.director_root.version) == (2, 2)
        assert trust.role("image-targets").keys == holders.keys("erin-targets")
        assert controller.online_keys().pending(KeyName.DIRECTOR) is None
        assert controller.online_keys().signer(KeyName.DIRECTOR).public_key == next_director
        assert controller.repository(TOMORROW).refresh(TOMORROW)
    assert crashes_after >= 4


def test_signatures_from_copies_of_a_folder_are_collected(
    controller: Controller, folder: Path, holders: Holders, tmp_path: Path
) -> None:
    for name in ("alice-image", "bob-image", "dora-image"):
        shutil.copytree(folder, tmp_path / name)
        sign_by(holders, tmp_path / name, name, now=LATER)

    for name in ("alice-image", "bob-image", "dora-image"):
        ceremony = collect(folder, tmp_path / name, LATER)

    assert [seat.missing for seat in ceremony.seats()] == [0, 0]
    controller.finish(folder, LATER)


def test_signatures_of_another_ceremony_are_not_collected(
    controller: Controller, folder: Path, holders: Holders, tmp_path: Path
) -> None:
    changes = RoleChanges(controller.trust()).renew(DocumentName.IMAGE_ROOT)
    start(tmp_path / "other", changes.documents(LATER), controller.tuf_dir, "renewal")
    sign_by(holders, tmp_path / "other", "alice-image", now=LATER)

    with pytest.raises(CeremonyRefused, match="two ceremonies"):
        collect(folder, tmp_path / "other", LATER)
