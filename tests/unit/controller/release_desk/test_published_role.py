import json
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from controller.release_desk.published_role import RepositoryFolder
from controller.release_desk.report import DeskCode, DeskRefusal
from controller.release_desk.source import Source
from tests.support.release_roles import MODEL, NOW, ROLE, ReleaseRepository, target_of
from tests.support.static_files import StaticFiles

ONE = target_of(f"prod/{MODEL}/1/int8/manifest.json", b"one", slot=MODEL, release=1)
TWO = target_of(f"prod/{MODEL}/2/int8/manifest.json", b"two", slot=MODEL, release=2)


def refusal(folder: RepositoryFolder, code: DeskCode, words: str = ".", model: str = MODEL) -> None:
    with pytest.raises(DeskRefusal, match=words) as refused:
        folder.follow(model, NOW)
    assert refused.value.code is code


def test_a_role_that_has_released_nothing_is_known_with_its_keys(
    folder: RepositoryFolder, repository: ReleaseRepository
) -> None:
    published = folder.follow(MODEL, NOW)
    assert (published.name, published.version, published.current, published.threshold) == (ROLE, 0, None, 2)
    assert set(published.keys) == {repository.keys[person].public_key.keyid for person in ("alice", "bob")}


def test_a_published_role_is_read_with_its_targets(folder: RepositoryFolder, repository: ReleaseRepository) -> None:
    repository.publish_role(repository.draft([ONE]), "alice", "bob")
    published = folder.follow(MODEL, NOW)
    assert published.version == 1
    assert published.current is not None
    assert set(published.current.targets) == {ONE.path}


def test_a_role_that_has_expired_can_still_be_read_so_that_it_can_be_renewed(
    folder: RepositoryFolder, repository: ReleaseRepository
) -> None:
    repository.publish_role(repository.draft([ONE], expires=NOW - timedelta(days=1)), "alice", "bob")
    assert folder.follow(MODEL, NOW).version == 1


def test_a_model_without_a_release_role_is_refused(folder: RepositoryFolder) -> None:
    refusal(folder, DeskCode.ROLE, "ceremony", model="other")


def test_a_root_that_is_not_the_signers_is_refused(
    tmp_path: Path, source: Source, repository: ReleaseRepository
) -> None:
    foreign = ReleaseRepository({})
    refusal(RepositoryFolder(tmp_path / "other", source, foreign.bootstrap), DeskCode.ROOT)


def test_a_role_that_one_person_alone_signed_is_refused(
    folder: RepositoryFolder, repository: ReleaseRepository
) -> None:
    repository.publish_role(repository.draft([ONE]), "alice")
    refusal(folder, DeskCode.ROOT, "1/2 keys")


def test_a_role_that_online_keys_signed_is_refused(folder: RepositoryFolder, repository: ReleaseRepository) -> None:
    repository.publish_role(repository.draft([ONE]), "dev", "bins", "snapshot")
    refusal(folder, DeskCode.ROOT)


def test_a_role_that_goes_back_is_refused(
    folder: RepositoryFolder, repository: ReleaseRepository, tmp_path: Path
) -> None:
    repository.publish_role(repository.draft([ONE]), "alice", "bob")
    first = repository.role
    repository.publish_role(repository.draft([TWO]), "alice", "bob")
    assert folder.follow(MODEL, NOW).version == 2
    repository.role = first
    repository.commit()
    refusal(folder, DeskCode.ROOT)


def test_an_older_repository_is_refused_even_when_the_cache_was_lost(
    folder: RepositoryFolder, repository: ReleaseRepository, served: StaticFiles, tmp_path: Path
) -> None:
    repository.publish_role(repository.draft([ONE]), "alice", "bob")
    before = dict(served.files)
    repository.publish_role(repository.draft([TWO]), "alice", "bob")
    folder.follow(MODEL, NOW)
    for name in ("timestamp", "snapshot", "targets"):
        (tmp_path / "desk" / "tuf" / f"{name}.json").write_bytes(b"")
    served.files.clear()
    served.files |= before
    refusal(folder, DeskCode.ROLLBACK, "you have seen")


def test_another_role_under_a_number_that_was_seen_is_refused(
    folder: RepositoryFolder, repository: ReleaseRepository
) -> None:
    repository.publish_role(repository.draft([ONE]), "alice", "bob")
    folder.follow(MODEL, NOW)
    repository.role = None
    repository.publish_role(repository.draft([TWO]), "alice", "bob")
    refusal(folder, DeskCode.ROLLBACK, "under that number")


def test_a_root_rotation_is_followed_from_the_old_root(folder: RepositoryFolder, repository: ReleaseRepository) -> None:
    folder.follow(MODEL, NOW)
    repository.root.version = 2
    repository.root.revoke_key(repository.keys["timestamp"].public_key.keyid, "timestamp")
    repository.keys["timestamp"] = CryptoSigner.generate_ed25519()
    repository.root.add_key(repository.keys["timestamp"].public_key, "timestamp")
    repository.put("root", repository.root, "root")
    repository.commit()
    assert folder.follow(MODEL, NOW).root_version == 2


def test_an_expired_timestamp_is_refused(folder: RepositoryFolder) -> None:
    with pytest.raises(DeskRefusal, match="expired"):
        folder.follow(MODEL, NOW + timedelta(days=8))


def test_a_redirect_is_not_followed(
    folder: RepositoryFolder, repository: ReleaseRepository, served: StaticFiles
) -> None:
    served.redirects["/tuf/metadata/timestamp.json"] = f"{served.url}/tuf/metadata/1.targets.json"
    refusal(folder, DeskCode.ROOT, "302")


def test_endless_metadata_is_refused(folder: RepositoryFolder, served: StaticFiles) -> None:
    served.files["/tuf/metadata/timestamp.json"] = b" " * 20_000
    refusal(folder, DeskCode.ROOT)


def test_the_marks_are_for_the_signer_alone(folder: RepositoryFolder, tmp_path: Path) -> None:
    folder.follow(MODEL, NOW)
    marks = tmp_path / "desk" / "marks.json"
    assert marks.stat().st_mode & 0o077 == 0
    assert set(json.loads(marks.read_text())) == {"root", "timestamp", "snapshot", "targets", ROLE}


def test_a_role_whose_key_was_revoked_is_read_where_it_was_verified_before_and_nowhere_else(
    folder: RepositoryFolder, repository: ReleaseRepository, source: Source, tmp_path: Path
) -> None:
    repository.publish_role(repository.draft([ONE]), "alice", "bob")
    folder.follow(MODEL, NOW)
    repository.targets.revoke_key(repository.keys["bob"].public_key.keyid, ROLE)
    carol = CryptoSigner.generate_ed25519()
    repository.targets.add_key(carol.public_key, ROLE)
    repository.targets.version = 2
    repository.put("targets", repository.targets, "targets")
    repository.commit()

    published = folder.follow(MODEL, NOW)
    assert carol.public_key.keyid in published.keys
    assert published.version == 1
    refusal(RepositoryFolder(tmp_path / "new", source, repository.bootstrap), DeskCode.ROOT, published.sha256)
    told = RepositoryFolder(tmp_path / "told", source, repository.bootstrap, published.sha256)
    assert told.follow(MODEL, NOW).version == 1
