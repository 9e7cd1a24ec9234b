"""The table of verbs on the wire: what each takes, how its answer travels, and how errors come back as themselves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib.signer import Key, Signature

from controller.trust.custody.keys import KeyName
from controller.trust.errors import (
    KeyStoreError,
    SignedFilesError,
    SignerCode,
    SignerRefused,
    SignerUnavailable,
    SigningKeyError,
    TrustError,
    TrustMissing,
)
from controller.trust.signer.interface import KeyWish, OnlineSigner, StatementKind

Read = Callable[[Any], Any]


@dataclass(frozen=True)
class Verb:
    """One verb: how its arguments are read (ValueError where they do not fit), and its answer's form both ways."""

    arguments: Mapping[str, Read]
    pack: Callable[[Any], Any] = lambda value: value
    unpack: Callable[[Any], Any] = lambda value: value


def _of(kind: type) -> Read:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"{type(value).__name__}; expected {kind.__name__}")
        return value

    return read


def _list_of(kind: type) -> Read:
    read_item = _of(kind)
    return lambda value: [read_item(item) for item in _of(list)(value)]


def _wishes(value: Any) -> list[KeyWish]:
    read = _list_of(str)
    parts = [read(item) for item in _of(list)(value)]
    if any(len(wish) != len(KeyWish._fields) for wish in parts):
        raise ValueError(f"a wish that is not {', '.join(KeyWish._fields)}")
    return [KeyWish(*wish) for wish in parts]


def _pack_key(key: Key) -> dict[str, Any]:
    return {"keyid": key.keyid, **key.to_dict()}


def _unpack_key(value: dict[str, Any]) -> Key:
    return Key.from_dict(value.pop("keyid"), value)


_text, _number, _bytes = _of(str), _of(int), _of(bytes)
VERBS: Mapping[str, Verb] = {
    "public_key": Verb({"name": KeyName}, _pack_key, _unpack_key),
    "public_keys": Verb(
        {"name": KeyName},
        lambda keys: [_pack_key(key) for key in keys],
        lambda values: [_unpack_key(value) for value in values],
    ),
    "sign_role": Verb(
        {"role": _text, "signed": _bytes, "keyids": _list_of(str)}, lambda made: made.to_dict(), Signature.from_dict
    ),
    "sign_assignments": Verb({"payloads": _list_of(bytes), "approvals": _list_of(bytes)}),
    "sign_time": Verb({"nonce": _text}),
    "issue_certificate": Verb({"device": _text, "public_key_pem": _text}),
    "ca_certificate": Verb({}),
    "sign_statement": Verb({"kind": StatementKind, "statement": _bytes}),
    "content_key": Verb({"key_id": _text}),
    "wrap_content_keys": Verb({"wishes": _wishes}),
    "journal_head": Verb({}),
    "newest_versions": Verb({}),
    "anchor_audit": Verb({"seq": _number, "sha256": _text}),
    "audit_anchors": Verb({}, unpack=lambda value: [(seq, sha256) for seq, sha256 in value]),
}

_ERRORS: Mapping[str, type[TrustError]] = {
    kind.code: kind
    for kind in (SignerRefused, KeyStoreError, SigningKeyError, SignedFilesError, TrustMissing, SignerUnavailable)
}


def answer(signer: OnlineSigner, request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what a request asks for and return the answer; a refusal is an answer too."""
    try:
        name, given = request["verb"], request["arguments"]
        verb = VERBS.get(name) if isinstance(name, str) else None
        if verb is None:
            raise SignerRefused("the signer has no such verb", code=SignerCode.VERB)
        value = getattr(signer, name)(**_read(name, verb, given))
        return {"value": verb.pack(value)}
    except TrustError as error:
        return {"error": {"kind": _kind_of(error), "code": error.code, "detail": error.detail}}


def raised(error: Mapping[str, str]) -> TrustError:
    """Return the error that an answer carries."""
    kind = _ERRORS.get(error["kind"], SignerUnavailable)
    return kind(error["detail"], code=error["code"])


def _read(name: str, verb: Verb, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or given.keys() != verb.arguments.keys():
        raise SignerRefused(f"{name} takes {', '.join(verb.arguments) or 'nothing'}", code=SignerCode.VERB)
    try:
        return {argument: read(given[argument]) for argument, read in verb.arguments.items()}
    except ValueError as error:
        raise SignerRefused(f"{name} does not take {error}", code=SignerCode.VERB) from error


def _kind_of(error: TrustError) -> str:
    return next((code for code, kind in _ERRORS.items() if isinstance(error, kind)), SignerUnavailable.code)
