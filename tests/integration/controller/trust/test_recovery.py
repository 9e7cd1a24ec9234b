"""The runbooks of docs/how-to/recover.md, rehearsed: their commands, and devices that had seen the state before.

What devices believe is decided by the agent's own code, over HTTP.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from controller.trust.ceremonies import ceremony
from controller.trust.ceremonies.ceremony_folder import read_ceremony
from controller.trust.ceremonies.role_changes import DocumentName, RoleChanges
from controller.trust.custody.keys import KeyName
from controller.trust.director import open_director
from controller.trust.errors import SigningKeyError
from controller.trust.signer.envelopes import EnvelopeSigner
from controller.trust.signer.verbs import open_local_signer
from device_agent.protocol.assignment import PAYLOAD_TYPE, VALIDITY, Assignment
from device_agent.protocol.channels import Channel
from tests.support.attacks import Group, plays
from tests.support.rehearsals import PAST, Rehearsal, WatchingDevice, now, slot_of
from tests.support.served_folder import served
from tests.support.signers import GOOD
from tests.support.waiting import wait_until

ROOT = ("alice-image-root", "bob-image-root")
TARGETS = ("alice-image-targets", "bob-image-targets")
DIRECTOR = ("alice-director-root", "bob-director-root")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    rehearsal = Rehearsal(tmp_path_factory.mktemp("recovery") / "site")
    rehearsal.make()
    return rehearsal


@pytest.fixture
def site(made: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    """A copy of the installation, which the commands find in the environment."""
    rehearsal = made.copy_to(tmp_path / "site")
    for name in ("EDGEFLEET_KEY_PASSPHRASE", "EDGEFLEET_KEY_PASSPHRASE_FILE", "EDGEFLEET_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGEFLEET_STATE_DIR", str(rehearsal.state))
    monkeypatch.setenv("EDGEFLEET_SINGLE_OPERATOR", "false")
    monkeypatch.chdir(tmp_path)
    return rehearsal


@pytest.fixture
def url(site: Rehearsal) -> Iterator[str]:
    with served(site.state.parent) as address:
        yield address


@pytest.fixture
def device(site: Rehearsal, url: str) -> WatchingDevice:
    """A device on `prod` that runs version 1."""
    running = site.device(url)
    assert running.follow(site.assign(slot_of(1), now() - PAST / 2)) == "accepted"
    assert running.active == slot_of(1).sha256
    return running


def stolen_keys(site: Rehearsal, path: Path) -> EnvelopeSigner:
    """Return the director's key in the hands of whoever copied the signer's folder."""
    shutil.copytree(site.state / "signer", path)
    thief = open_local_signer(path, site.site.tuf_dir)
    return EnvelopeSigner(thief._keys.signer(KeyName.DIRECTOR), PAYLOAD_TYPE)


def assignment_of(counter: int) -> bytes:
    """Return an assignment of version 1 as a thief words it."""
    issued = now().replace(microsecond=0)
    worded: Assignment = replace(
        GOOD, counter=counter, issued=issued, expires=issued + VALIDITY, slots={"digits": slot_of(1)}
    )
    return replace(worded, channel=Channel.PROD).to_payload()


# The signer's host or its keys are lost.


def test_a_lost_signer_is_replaced_by_one_ceremony_and_devices_go_on(
    site: Rehearsal, device: WatchingDevice, tmp_path: Path
) -> None:
    found = stolen_keys(site, tmp_path / "found")
    kept = site.assign(slot_of(1), now() - PAST / 4)
    shutil.rmtree(site.state / "signer")
    with pytest.raises(SigningKeyError, match="rotate the key with a ceremony"):
        open_director(site.site.tuf_dir / "director", site.site.signer(now()), now())
    assert device.follow(kept) == "accepted"

    folder = tmp_path / "lost"
    site.command("key", "rotate", "image-snapshot", "image-timestamp", "image-dev", "director", "--folder", folder)
    site.sign_and_finish(folder, *ROOT, *TARGETS, *DIRECTOR)

    assert device.follow(site.assign(slot_of(1))) == "accepted"
    assert device.follow(found.envelope(assignment_of(2**50))) == "E_SIG_THRESHOLD[assignment]"
    site.publish(3)
    site.release(2, "rita")
    assert device.active == slot_of(1).sha256
    assert device.follow(site.assign(slot_of(2), now() + timedelta(seconds=2))) == "accepted"
    assert device.active == slot_of(2).sha256


def test_keys_from_a_backup_sign_on_without_the_journal(site: Rehearsal, device: WatchingDevice) -> None:
    site.publish(3)
    assert device.follow(site.assign(slot_of(1))) == "accepted"
    (site.state / "signer" / "journal.jsonl").unlink()
    site.command("key", "reissue")
    assert device.follow(site.assign(slot_of(1), now() + timedelta(seconds=1))) == "accepted"
    site.release(3, "rita")
    assert device.follow(site.assign(slot_of(3), now() + timedelta(seconds=2))) == "accepted"


# The director's key is stolen.


@plays(
    Group.CONTROLLER,
    "the director's stolen key pushes a device's counter to its end, and signs on after it was replaced",
    "E_SIG_THRESHOLD[assignment]",
)
def test_a_stolen_director_key_is_replaced_and_what_it_pushed_forward_is_forgotten(
    site: Rehearsal, device: WatchingDevice, tmp_path: Path
) -> None:
    thief = stolen_keys(site, tmp_path / "stolen")
    assert device.follow(thief.envelope(assignment_of(2**53))) == "accepted"
    assert device.follow(site.assign(slot_of(1))) == "E_ROLLBACK[assignment]"

    folder = tmp_path / "stolen-director"
    site.command("key", "rotate", "director", "--folder", folder)
    site.sign_and_finish(folder, *DIRECTOR)

    assert device.follow(thief.envelope(assignment_of(2**53))) == "E_SIG_THRESHOLD[assignment]"
    assert device.active == slot_of(1).sha256
    assert device.follow(site.assign(slot_of(1))) == "accepted"
    late = site.device(device.url, "late")
    assert late.follow(site.assign(slot_of(1))) == "accepted"


# Published files, or the whole state folder, come from an old backup.


@pytest.fixture
def backup(site: Rehearsal, device: WatchingDevice, tmp_path: Path) -> Path:
    """A backup of the state folder, after which a key was replaced, a release made, and all of it seen by a device."""
    path = tmp_path / "backup"
    shutil.copytree(site.state, path)
    folder = tmp_path / "bobs-new-key"
    site.key_file("bob-new")
    revoked = site.key("bob-image-root").keyid
    site.command("key", "revoke", revoked, "--replacement", site.public_file("bob-new"), "--folder", folder)
    site.sign_and_finish(folder, *ROOT, "bob-new")
    site.publish(3)
    site.release(2, "rita")
    assert device.follow(site.assign(slot_of(2))) == "accepted"
    return path


def restore(site: Rehearsal, backup: Path, *names: str) -> Path:
    """Put folders of a backup in the places of the present ones; return a copy of what was published last."""
    mirror = backup.with_name("mirror")
    shutil.copytree(site.site.tuf_dir, mirror)
    # Versions follow the clock; nobody restores a backup within the second in which the last one was signed.
    newest = site.site.repository().versions()["timestamp"]
    wait_until(lambda: now().timestamp() > newest + 1, what="the clock")
    for name in names:
        shutil.rmtree(site.state / name)
        shutil.copytree(backup / name, site.state / name)
    return mirror


@pytest.mark.parametrize("names", [("tuf",), ("tuf", "signer")], ids=["published files", "and the signer's folder"])
@plays(Group.CONTROLLER, "a backup from before a root and a release is served", "E_ROLLBACK_OR_MIX[timestamp]")
def test_a_restored_folder_gets_back_what_people_signed_and_devices_go_on(
    site: Rehearsal, device: WatchingDevice, backup: Path, names: tuple[str, ...]
) -> None:
    mirror = restore(site, backup, *names)
    soon = now() + timedelta(seconds=2)
    assert device.follow(site.assign(slot_of(1), soon)) == "E_ROLLBACK_OR_MIX[timestamp]"
    assert device.active == slot_of(2).sha256

    site.command("key", "reissue", "--copy", mirror)

    assert device.follow(site.assign(slot_of(2), soon + timedelta(seconds=1))) == "accepted"
    assert device.follow(site.assign(slot_of(1), soon + timedelta(seconds=2))) == "accepted"
    assert (site.site.tuf_dir / "metadata" / "2.root.json").exists()
    site.publish(3)
    site.release(3, "rita")
    assert device.follow(site.assign(slot_of(3), soon + timedelta(seconds=3))) == "accepted"


def test_without_a_copy_the_newest_root_comes_from_its_ceremony_and_releases_need_new_keys_of_the_snapshot(
    site: Rehearsal, device: WatchingDevice, backup: Path, tmp_path: Path
) -> None:
    restore(site, backup, "tuf")
    site.command("key", "reissue")
    soon = now() + timedelta(seconds=2)
    assert device.follow(site.assign(slot_of(1), soon)) == "E_ROLLBACK_OR_MIX[snapshot]"
    assert device.active == slot_of(2).sha256

    site.command("key", "ceremony", "finish", tmp_path / "bobs-new-key")
    folder = tmp_path / "again"
    site.command("key", "rotate", "image-snapshot", "image-timestamp", "--folder", folder)
    site.sign_and_finish(folder, "alice-image-root", "bob-new")

    assert device.follow(site.assign(slot_of(1), soon + timedelta(seconds=1))) == "accepted"
    site.publish(2)
    site.release(2, "rita")
    assert device.follow(site.assign(slot_of(2), soon + timedelta(seconds=2))) == "accepted"


# Roots: every year, and after a theft.


def test_a_device_that_slept_over_several_rotations_follows_each_of_them(
    site: Rehearsal, device: WatchingDevice, tmp_path: Path
) -> None:
    asleep = site.device(device.url, "asleep")
    for year in ("first", "second"):
        folder = tmp_path / year
        site.command("key", "ceremony", "start", "--renew", "--folder", folder)
        site.sign_and_finish(folder, *ROOT, *TARGETS, *DIRECTOR)
        assert device.follow(site.assign(slot_of(1), now() + timedelta(seconds=len(year)))) == "accepted"
    assert device.director.root.version == 3
    assert asleep.follow(site.assign(slot_of(1))) == "accepted"
    assert asleep.director.root.version == 3
    assert asleep.record.image_marks["root"].version == 3


def test_a_root_that_expired_stops_changes_until_it_is_renewed_and_nothing_else(
    made: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = made.copy_to(tmp_path / "site")
    monkeypatch.setenv("EDGEFLEET_STATE_DIR", str(site.state))
    monkeypatch.setenv("EDGEFLEET_SINGLE_OPERATOR", "false")
    in_a_year = now() + timedelta(days=366)
    with served(site.state.parent) as url:
        device = site.device(url, wall=lambda: in_a_year)
        site.site.repository(in_a_year).reissue(in_a_year)
        device.active = slot_of(1).sha256
        assert device.follow(site.assign(slot_of(1), in_a_year)) == "E_FREEZE_EXPIRED[director-root]"
        assert device.active == slot_of(1).sha256

        renewed = RoleChanges(site.site.trust()).renew(*DocumentName).documents(in_a_year)
        folder = tmp_path / "late"
        ceremony.start(folder, renewed, site.site.tuf_dir, "renewal")
        for name in (*ROOT, *TARGETS, *DIRECTOR):
            ceremony.sign(read_ceremony(folder), site.signer(name), in_a_year)
        site.site.finish(folder, in_a_year)
        site.release(None, "sam", in_a_year)
        assert device.follow(site.assign(slot_of(1), in_a_year)) == "accepted"


@plays(Group.CONTROLLER, "a root key was stolen, and signs the next root alone", "E_SIG_THRESHOLD[root]")
def test_a_stolen_root_key_is_replaced_before_a_second_one_is(
    site: Rehearsal, device: WatchingDevice, tmp_path: Path
) -> None:
    folder = tmp_path / "theft"
    site.key_file("carol-new")
    stolen = site.key("carol-image-root").keyid
    site.command("key", "revoke", stolen[:16], "--replacement", site.public_file("carol-new"), "--folder", folder)
    site.sign_and_finish(folder, *ROOT, "carol-new")
    assert device.follow(site.assign(slot_of(1))) == "accepted"

    thiefs = RoleChanges(site.site.trust()).renew(DocumentName.IMAGE_ROOT).documents(now())
    forged = Metadata[Any](thiefs[DocumentName.IMAGE_ROOT])
    forged.sign(site.signer("carol-image-root"), append=True)
    wanted = site.assign(slot_of(1), now() + timedelta(seconds=2))
    planted = site.site.tuf_dir / "metadata" / "3.root.json"
    planted.write_bytes(forged.to_bytes())
    assert device.follow(wanted) == "E_SIG_THRESHOLD[root]"
    assert device.active == slot_of(1).sha256
    planted.unlink()
    assert device.follow(wanted) == "accepted"
