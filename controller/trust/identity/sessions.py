"""How a device proves who it is, without a row in any table.

A device signs a challenge with its P-256 key and gets a token that it shows with every call for an hour. Both
are sealed with HMAC-SHA256 (RFC 2104) under the session secret, with their expiry inside:

    challenge  efc1.<nonce>.<expiry, unix seconds>.<mac>
    token      efs1.<device>.<expiry, unix seconds>.<mac>

The mac covers everything before it, its prefix included, so that one is never taken for the other. A device's answer
also names the origin that the device talks to, so that nobody in between can pass it on; that a challenge is answered
once is for the caller to see to (`use_cases/open_session.py`).
"""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NewType

from securesystemslib.dsse import Envelope

from controller.trust.errors import Refusal, RefusalCode
from controller.trust.identity.device_envelopes import is_signed_by, read_device_envelope
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
class SessionRequest:
    """A device's answer to a challenge, of which nothing is believed yet."""

    device: str
    challenge: str
    audience: str
    envelope: Envelope


@dataclass(frozen=True)
class Answered:
    """A challenge of ours that was answered in time."""

    digest: str
    """sha256 of the challenge, under which it is remembered as spent."""
    expires_at: datetime


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

    def check_answer(
        self, request: SessionRequest, public_key_pem: str, audiences: Collection[str], now: datetime
    ) -> Answered | Refusal:
        """Check a device's answer with the key that the device is known by; return what is spent by it.

        `audiences` are the origins under which devices reach the controller; empty: any is taken.
        """
        if not is_signed_by(request.envelope, public_key_pem):
            detail = f"not signed by the key that {request.device} was enrolled with"
            return Refusal(RefusalCode.REQUEST_SIGNATURE, detail)
        if audiences and plain_origin(request.audience) not in audiences:
            detail = f"signed for {request.audience}, which is not an address of this controller"
            return Refusal(RefusalCode.REQUEST_SIGNATURE, detail)
        found = self._unseal(request.challenge, _CHALLENGE, now)
        if found is None:
            return Refusal(RefusalCode.CHALLENGE, "the challenge is not ours or is over; ask for a new one")
        return Answered(hashlib.sha256(request.challenge.encode()).hexdigest(), found[1])

    def open(self, device: AuthenticatedDevice, now: datetime) -> Session:
        """Return the session of a device that has proven its key."""
        return Session(device, self.token_for(device, now), int(SESSION_VALIDITY.total_seconds()))

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


def read_session_request(raw: bytes) -> SessionRequest | Refusal:
    """Read a device's answer, a DSSE envelope as it arrived."""
    envelope = read_device_envelope(raw, SESSION_PAYLOAD_TYPE, bytes_max=ENVELOPE_BYTES_MAX, role="session")
    if isinstance(envelope, Refusal):
        return envelope
    try:
        fields = Fields.from_json(envelope.payload, "session")
        return SessionRequest(
            fields.text("device", most=64),
            fields.text("challenge", most=256),
            fields.text("audience", most=256),
            envelope,
        )
    except ProtocolError as error:
        return Refusal(RefusalCode.MALFORMED, str(error))


def plain_origin(text: str) -> str:
    """Return an origin as it is compared: in lower case, without a slash at the end and without the scheme's port."""
    origin = text.strip().rstrip("/").lower()
    port = ":443" if origin.startswith("https:") else ":80"
    return origin.removesuffix(port)
