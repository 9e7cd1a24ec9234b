"""What a set of roles and keys must not be, although TUF and its clients allow it.

python-tuf counts key ids, not keys: one private key that is listed under two ids meets a threshold of two. And
nothing in it says that a key which lies online must not also speak for people.
"""

from collections.abc import Iterable, Mapping

from securesystemslib.signer import Key
from tuf.api.metadata import Role, Root, Targets

from controller.trust.errors import LintCode, TrustLint
from controller.trust.images.image_roles import DEV_PATHS, RELEASE_PREFIX, release_paths
from device_agent.protocol.key_material import key_material

_OFFLINE_TOP = ("root", "targets")
_ONLINE_TOP = ("snapshot", "timestamp")


def lint_root(root: Root, *, single_operator: bool = True) -> None:
    """Raise TrustLint for a root that promises more than it keeps.

    Outside single-operator mode the root role itself must also need two people, and must survive the loss of a key.
    Roles without any key are not used (the director has no snapshot and no timestamp) and are passed over.
    """
    _lint_keys(root.keys)
    for name, role in root.roles.items():
        if role.keyids or name in _OFFLINE_TOP:
            _lint_threshold(name, role, root.keys)
    _lint_shared(_of(root, _OFFLINE_TOP), _of(root, _ONLINE_TOP), "a key that people hold and a key of the signer")
    role = root.roles[Root.type]
    if not single_operator and (role.threshold < 2 or len(role.keyids) <= role.threshold):
        raise TrustLint(
            f"the root role has {len(role.keyids)} keys and a threshold of {role.threshold}; it needs a threshold of "
            "at least 2 and one key more than that, so that no theft and no loss of one key ends it",
            code=LintCode.THRESHOLD,
            field="threshold",
        )


def lint_delegations(targets: Targets) -> None:
    """Raise TrustLint for delegations that are not `dev` and `prod-MODEL` as devices expect them, or are weak."""
    roles = (targets.delegations and targets.delegations.roles) or {}
    keys = targets.delegations.keys if targets.delegations else {}
    if "dev" not in roles or targets.targets:
        raise TrustLint("the targets document must delegate `dev` and list no target itself; make it anew")
    _lint_keys(keys)
    for name, role in roles.items():
        _lint_threshold(name, role, keys)
        model = name.removeprefix(RELEASE_PREFIX)
        paths = [DEV_PATHS] if name == "dev" else [release_paths(model)]
        if (name != "dev" and model in ("", name)) or role.paths != paths or not role.terminating:
            raise TrustLint(
                f"the delegation {name} has the paths {role.paths} (terminating: {role.terminating}); `dev` and "
                "`prod-MODEL` are delegated, each its own paths and terminating"
            )
    releases = _named(keys, (keyid for name, role in roles.items() if name != "dev" for keyid in role.keyids))
    _lint_shared(releases, _named(keys, roles["dev"].keyids), "a release key and the key of `dev`")


def lint_apart(*documents: Root | Targets) -> None:
    """Raise TrustLint when the director shares a key with the image repository, or its online key is a root key.

    Takes the documents of the image repository (its root, and its targets where they are at hand), then the
    director's root. What both sign means nothing when one key can sign for both.
    """
    *image, director = documents
    if not isinstance(director, Root):
        raise TypeError("the last document is the director's root")
    for document in image:
        keys = document.keys if isinstance(document, Root) else document.delegations and document.delegations.keys
        _lint_shared(keys or {}, director.keys, "a key of the image repository and a key of the director")
    _lint_shared(_of(director, ["root"]), _of(director, ["targets"]), "the director's root key and its signing key")


def _of(root: Root, roles: Iterable[str]) -> dict[str, Key]:
    return _named(root.keys, (keyid for role in roles for keyid in root.roles[role].keyids))


def _named(keys: Mapping[str, Key], keyids: Iterable[str]) -> dict[str, Key]:
    found = {}
    for keyid in keyids:
        if keyid not in keys:
            raise TrustLint(f"a role names the key {keyid!r:.20}, which the document does not hold", field="keys")
        found[keyid] = keys[keyid]
    return found


def _lint_keys(keys: Mapping[str, Key]) -> None:
    seen: dict[str, str] = {}
    for keyid, key in keys.items():
        other = seen.setdefault(key_material(key), keyid)
        if other != keyid:
            raise TrustLint(
                f"the key ids {other[:16]} and {keyid[:16]} are one and the same key, which would count twice; name "
                "it once",
                code=LintCode.DUPLICATE_KEY,
                field="keys",
            )


def _lint_threshold(name: str, role: Role, keys: Mapping[str, Key]) -> None:
    held = [keyid for keyid in role.keyids if keyid in keys]
    if not 1 <= role.threshold <= len(held):
        raise TrustLint(
            f"{name} has {len(held)} keys and a threshold of {role.threshold}; the threshold must be at least 1 and at "
            "most the number of keys",
            code=LintCode.THRESHOLD,
            field="threshold",
        )


def _lint_shared(some: Mapping[str, Key], others: Mapping[str, Key], what: str) -> None:
    material = {key_material(key): keyid for keyid, key in some.items()}
    for keyid, key in others.items():
        if key_material(key) in material:
            raise TrustLint(
                f"{what} are one: {material[key_material(key)][:16]} is {keyid[:16]}; make a key for each",
                code=LintCode.SHARED_KEY,
                field="keys",
            )
