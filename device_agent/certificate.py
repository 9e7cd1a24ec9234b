"""The device's certificate: issued at the enrolment, renewed long before it ends, shown to proxies that ask for one.

    device.crt   the certificate of device.key (PEM); not there where the controller issues none

Nothing that the agent decides depends on it: sessions, polls and reports are bound to the key itself.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.controller_link import ControllerLink
from device_agent.durable import replace_durably
from device_agent.identity import Identity

_log = logging.getLogger(__name__)
RENEWED_AT = 1 / 3
"""Share of a certificate's life that is left when it is renewed."""
_CHECK_S = 3600.0


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether it is time to renew."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - now < life * RENEWED_AT


class CertificateKeeper:
    """Keeps one device's certificate."""

    def __init__(self, path: Path, identity: Identity, clock: Callable[[], float] = time.monotonic) -> None:
        """`path` is where the certificate lies, or would."""
        self._path = path
        self._identity = identity
        self._clock = clock
        self._next_check = clock()

    def renew_when_due(self, link: ControllerLink, now: datetime) -> None:
        """Look once an hour; a renewal that fails is tried again with the next look."""
        if self._clock() < self._next_check:
            return
        certificate = self._load()
        if certificate is None or not is_due(certificate, now):
            self._next_check = self._clock() + _CHECK_S
            return
        if not link.is_open:
            return  # the link is waiting; look again when it is not
        self._next_check = self._clock() + _CHECK_S
        renewed = link.renew_certificate()
        if renewed:
            self._keep(renewed)

    def _load(self) -> x509.Certificate | None:
        try:
            return x509.load_pem_x509_certificate(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.error("%s cannot be read: %s; move it away and enrol again", self._path, error)
            return None

    def _keep(self, pem: str) -> None:
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
        except ValueError as error:
            _log.error("the controller's new certificate cannot be read: %s", error)
            return
        if not _is_of(certificate, self._identity):
            _log.error("the controller's new certificate is for another key; the old one stays")
            return
        replace_durably(self._path, pem.encode())
        _log.info("the certificate was renewed until %s", certificate.not_valid_after_utc)


def _is_of(certificate: x509.Certificate, identity: Identity) -> bool:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_key().public_bytes(*form) == identity.key.public_key().public_bytes(*form)
