"""The director: which device runs what, signed for one device at a time under a root of its own.

Its root is a TUF root document whose `targets` role lists the keys that sign assignments. There is no director
timestamp or snapshot: the same online key would sign them; the assignment's counter and expiry do their work.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import structlog
from tuf.api.metadata import Root

from controller.trust.custody.keys import KeyName
from controller.trust.errors import SigningKeyError, TrustMissing
from controller.trust.images.root_chain import RootChain
from controller.trust.signer.interface import KeyWish, OnlineSigner
from device_agent.protocol.assignment import Assignment

_log = structlog.get_logger()


class Director:
    """Has assignments signed. Safe to share between threads."""

    def __init__(self, root: Root, signer: OnlineSigner) -> None:
        """Take the verified root; a signer whose key it does not name is refused with SigningKeyError."""
        if signer.public_key(KeyName.DIRECTOR).keyid not in root.roles["targets"].keyids:
            raise SigningKeyError(
                "the signer's director key is not one that the director's root names; bring the signer's folder back, "
                "or rotate the key with a ceremony"
            )
        self.root = root
        self._signer = signer

    def sign_all(self, assignments: Sequence[Assignment], approvals: Sequence[bytes] = ()) -> list[bytes]:
        """Return each assignment as a DSSE envelope in compact JSON, as the device fetches it; all or none.

        `approvals` are envelopes of people who approved released manifests. SignerRefused says what is not signed.
        """
        return self._signer.sign_assignments([assignment.to_payload() for assignment in assignments], approvals)

    def wrap_content_keys(self, wishes: Sequence[KeyWish]) -> list[str]:
        """Return the keys of sealed models, each wrapped for its device, in order; empty where it cannot be."""
        return self._signer.wrap_content_keys(wishes)


def open_director(directory: Path, signer: OnlineSigner, now: datetime) -> Director:
    """Return the director whose root chain is installed in `directory`.

    TrustMissing where there is none; SigningKeyError where it does not name the signer's key.
    """
    if not (directory / "1.root.json").exists():
        raise TrustMissing(f"no director's root is installed in {directory}; a key ceremony makes and installs it")
    root = RootChain(directory).newest()
    if root.is_expired(now):
        # Devices keep serving what they run; only a ceremony can mend it, and the pages must stay up for that.
        _log.error("the director's root has expired; devices refuse new assignments", expired=str(root.expires))
    return Director(root, signer)
