"""How a device proves who it is, without a row in any table.

A device signs a challenge with its P-256 key and gets a token that it shows with every call for an hour. Both
are sealed with HMAC-SHA256 (RFC 2104) under the session secret, with their expiry inside:

    challenge  efc1.<nonce>.<expiry, unix seconds>.<mac>
    token      efs1.<device>.<expiry, unix seconds>.<mac>

The mac covers everything before it, its prefix included, so that one is never taken for the other. A challenge
may be answered more than once in its minute; who could read the answer off the link could read the token too.
"""

import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NewType

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from controller.trust.errors import Refusal, RefusalCode
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.fields import Fields
from device_agent.protocol.messages import SESSION_PAYLOAD_TYPE

CHALLENGE_VALIDITY = timedelta(seconds=60)
SESSION_VALIDITY = timedelta(hours=1)
ENVELOPE_BYTES_MAX = 8 * 1024
_CHALLENGE = "efc1"
_TOKEN = "efs1"  # noqa: S105

AuthenticatedDevice = NewType("AuthenticatedDevice", str)
"""The id of a device that has proven its key, in this call or by the token it showed."""


@dataclass(frozen=True)
class Session:
    """What a device gets for its signature."""

    device: AuthenticatedDevice
    token: str
    expires_s: int


@dataclass(frozen=True)
class ShownToken:
    """A token that was found to be ours and not over."""

    device: AuthenticatedDevice
    ends: datetime


class Sessions:
    """Challenges and tokens under one secret. Safe to share between threads; every process agrees."""

    def __init__(self, secret: bytes) -> None:
        """Take the session secret of the key store."""
        self._keyed = hmac.new(secret, digestmod="sha256")

    def issue_challenge(self, now: datetime) -> str:
        """Return a challenge that is good for CHALLENGE_VALIDITY."""
        return self._seal(f"{_CHALLENGE}.{secrets.token_hex(16)}", now + CHALLENGE_VALIDITY)

    def open_session(self, raw: bytes, public_key_of: Callable[[str], str | None], now: datetime) -> Session | Refusal:
        """Check a signed challenge; return the session, or why there is none.

        `raw` is the DSSE envelope as it arrived. `public_key_of` returns the PEM of the key that a device was
        enrolled with, None for a device that is unknown or may not talk to the controller any more.
        """
        envelope = _read_envelope(raw)
        if isinstance(envelope, Refusal):
            return envelope
        try:
            fields = Fields.from_json(envelope.payload, "session")
            device, challenge = fields.text("device", most=64), fields.text("challenge", most=256)
        except ProtocolError as error:
            return Refusal(RefusalCode.MALFORMED, str(error))
        public_key_pem = public_key_of(device)
        if public_key_pem is None:
            return Refusal(RefusalCode.DEVICE_UNKNOWN, f"{device} is not an enrolled device")
        if not _is_signed_by(envelope, public_key_pem):
            return Refusal(RefusalCode.SIGNATURE, f"not signed by the key that {device} was enrolled with")
        if self._unseal(challenge, _CHALLENGE, now) is None:
            return Refusal(RefusalCode.CHALLENGE, "the challenge is not ours or is over; ask for a new one")
        authenticated = AuthenticatedDevice(device)
        token = self.token_for(authenticated, now)
        return Session(authenticated, token, int(SESSION_VALIDITY.total_seconds()))

    def token_for(self, device: AuthenticatedDevice, now: datetime) -> str:
        """Return a token that is good for SESSION_VALIDITY."""
        return self._seal(f"{_TOKEN}.{device}", now + SESSION_VALIDITY)

    def check_token(self, text: str, now: datetime) -> AuthenticatedDevice | None:
        """Return whose token this is; None for anything but a token of ours that is not over."""
        shown = self.read_token(text, now)
        return shown.device if shown else None

    def read_token(self, text: str, now: datetime) -> ShownToken | None:
        """Return whose token this is and when it ends, for callers that remember it until then."""
        found = self._unseal(text, _TOKEN, now)
        return None if found is None else ShownToken(AuthenticatedDevice(found[0]), found[1])

    def _seal(self, body: str, expires: datetime) -> str:
        sealed = f"{body}.{int(expires.timestamp())}"
        return f"{sealed}.{self._mac(sealed)}"

    def _unseal(self, text: str, kind: str, now: datetime) -> tuple[str, datetime] | None:
        sealed, _, mac = text.rpartition(".")
        # compare_digest takes text only where it is ASCII.
        if not text.isascii() or not hmac.compare_digest(mac, self._mac(sealed)):
            return None
        body, _, expires_s = sealed.rpartition(".")
        found_kind, _, name = body.partition(".")
        if found_kind != kind or now.timestamp() >= int(expires_s):
            return None
        return name, datetime.fromtimestamp(int(expires_s), UTC)

    def _mac(self, sealed: str) -> str:
        # A copy of a keyed hash costs a third of a new one, and every poll needs one.
        mac = self._keyed.copy()
        mac.update(sealed.encode())
        return mac.hexdigest()


def _read_envelope(raw: bytes) -> Envelope | Refusal:
    if len(raw) > ENVELOPE_BYTES_MAX:
        return Refusal(RefusalCode.MALFORMED, f"{len(raw)} bytes; at most {ENVELOPE_BYTES_MAX}")
    try:
        envelope = Envelope.from_dict(json.loads(raw))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Refusal(RefusalCode.MALFORMED, f"not a DSSE envelope: {error!r}")
    if envelope.payload_type != SESSION_PAYLOAD_TYPE:
        return Refusal(
            RefusalCode.WRONG_TYPE, f"payload type {envelope.payload_type!r}; expected {SESSION_PAYLOAD_TYPE}"
        )
    return envelope


def _is_signed_by(envelope: Envelope, public_key_pem: str) -> bool:
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(public_key_pem.encode()))
        envelope.verify([key], threshold=1)
    except (VerificationError, UnsupportedAlgorithm, ValueError):
        return False
    return True
