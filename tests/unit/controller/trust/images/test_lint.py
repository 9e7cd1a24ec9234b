from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import DelegatedRole, Root, TargetFile, Targets

from controller.trust.errors import LintCode, TrustLint
from controller.trust.images.image_roles import new_targets, release_paths, release_role
from controller.trust.images.lint import lint_apart, lint_delegations, lint_root
from tests.support.image_repositories import OfflineKeys

EXPIRES = datetime(2027, 3, 1, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> OfflineKeys:
    return OfflineKeys(tmp_path)


def image_root(keys: OfflineKeys, root: Sequence[str] = ("r1", "r2", "r3"), threshold: int = 2) -> Root:
    made = Root(expires=EXPIRES)
    for name in root:
        made.add_key(keys.key(name), "root")
    for role in ("targets", "snapshot", "timestamp"):
        made.add_key(keys.key(role), role)
    made.roles["root"].threshold = threshold
    return made


def director_root(keys: OfflineKeys, root: Sequence[str] = ("d1", "d2", "d3"), signing: str = "director") -> Root:
    made = Root(expires=EXPIRES)
    for name in root:
        made.add_key(keys.key(name), "root")
    made.add_key(keys.key(signing), "targets")
    made.roles["root"].threshold = 2
    return made


def delegations(keys: OfflineKeys, *names: str, threshold: int = 1) -> Targets:
    targets = new_targets(lambda _: keys.key("dev"))
    assert targets.delegations
    assert targets.delegations.roles is not None
    role = release_role("digits")
    targets.delegations.roles[role] = DelegatedRole(role, [], 1, True, paths=[release_paths("digits")])
    for name in names:
        targets.add_key(keys.key(name), role)
    targets.delegations.roles[role].threshold = threshold
    return targets


def renamed(key: Key) -> SSlibKey:
    """Return the same key under another id."""
    return SSlibKey("f" * 64, key.keytype, key.scheme, {"public": key.keyval["public"].upper()})


def code_of(check: object, *documents: object, **options: bool) -> str:
    with pytest.raises(TrustLint) as found:
        check(*documents, **options)  # type: ignore[operator]
    return found.value.code


def test_roots_and_delegations_as_a_ceremony_makes_them_are_in_order(keys: OfflineKeys) -> None:
    lint_root(image_root(keys), single_operator=False)
    lint_root(director_root(keys), single_operator=False)
    lint_delegations(delegations(keys, "release-1", "release-2", threshold=2))
    lint_apart(image_root(keys), delegations(keys, "release-1"), director_root(keys))


def test_one_key_under_two_ids_is_found_however_it_is_written(keys: OfflineKeys) -> None:
    root = image_root(keys)
    root.add_key(renamed(keys.key("r1")), "root")
    assert code_of(lint_root, root) == LintCode.DUPLICATE_KEY
    targets = delegations(keys, "release-1", threshold=1)
    targets.add_key(renamed(keys.key("release-1")), "prod-digits")
    assert code_of(lint_delegations, targets) == LintCode.DUPLICATE_KEY


@pytest.mark.parametrize("threshold", [0, 4])
def test_a_threshold_that_nobody_or_everybody_meets_is_found(keys: OfflineKeys, threshold: int) -> None:
    assert code_of(lint_root, image_root(keys, threshold=threshold)) == LintCode.THRESHOLD
    assert code_of(lint_delegations, delegations(keys, "a", "b", "c", threshold=threshold)) == LintCode.THRESHOLD


def test_a_role_without_a_key_is_found(keys: OfflineKeys) -> None:
    assert code_of(lint_delegations, delegations(keys)) == LintCode.THRESHOLD
    root = image_root(keys)
    root.revoke_key(keys.key("targets").keyid, "targets")
    assert code_of(lint_root, root) == LintCode.THRESHOLD


@pytest.mark.parametrize(("root", "threshold"), [(("r1", "r2", "r3"), 1), (("r1", "r2"), 2), (("r1",), 1)])
def test_a_root_that_one_theft_or_one_loss_ends_is_for_a_single_operator_only(
    keys: OfflineKeys, root: tuple[str, ...], threshold: int
) -> None:
    weak = image_root(keys, root, threshold)
    lint_root(weak, single_operator=True)
    assert code_of(lint_root, weak, single_operator=False) == LintCode.THRESHOLD


def test_a_key_of_people_that_is_also_one_of_the_signers_is_found(keys: OfflineKeys) -> None:
    root = image_root(keys)
    root.add_key(keys.key("r1"), "timestamp")
    assert code_of(lint_root, root) == LintCode.SHARED_KEY
    assert code_of(lint_delegations, delegations(keys, "dev")) == LintCode.SHARED_KEY


@pytest.mark.parametrize("shared", ["r1", "targets", "snapshot", "release-1", "dev"])
def test_a_key_that_image_repository_and_director_share_is_found(keys: OfflineKeys, shared: str) -> None:
    for director in (director_root(keys, ("d1", "d2", shared)), director_root(keys, signing=shared)):
        documents = image_root(keys), delegations(keys, "release-1"), director
        assert code_of(lint_apart, *documents) == LintCode.SHARED_KEY


def test_a_director_whose_root_key_signs_assignments_is_found(keys: OfflineKeys) -> None:
    assert code_of(lint_apart, image_root(keys), director_root(keys, signing="d1")) == LintCode.SHARED_KEY


@pytest.mark.parametrize("change", ["paths", "terminating", "name", "no dev", "a target"])
def test_delegations_that_devices_would_read_otherwise_are_found(keys: OfflineKeys, change: str) -> None:
    targets = delegations(keys, "release-1")
    assert targets.delegations
    assert targets.delegations.roles is not None
    roles = targets.delegations.roles
    if change == "paths":
        roles["prod-digits"].paths = ["prod/*/*/*/manifest.json"]
    elif change == "terminating":
        roles["prod-digits"].terminating = False
    elif change == "name":
        roles["beta"] = roles.pop("prod-digits")
    elif change == "no dev":
        del roles["dev"]
    else:
        targets.targets["x"] = TargetFile.from_data("x", b"x", ["sha256"])
    assert code_of(lint_delegations, targets) == "trust_lint"
