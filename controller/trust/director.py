"""The director: which device runs what, signed for one device at a time under a root of its own.

Its root is a TUF root document whose `targets` role lists the keys that sign assignments. There is no director
timestamp or snapshot: the same online key would sign them; the assignment's counter and expiry do their work.
"""

import json
from datetime import datetime
from pathlib import Path

from securesystemslib.dsse import Envelope
from securesystemslib.signer import Signer
from tuf.api.metadata import Root

from controller.trust.durable_files import Write, exclusive, write_durably
from controller.trust.errors import SigningKeyError
from controller.trust.image_roles import whole_seconds
from controller.trust.keys import KeyName, SignerOf
from controller.trust.root_chain import RootChain
from device_agent.protocol.assignment import PAYLOAD_TYPE, Assignment


class Director:
    """Signs assignments. Safe to share between threads."""

    def __init__(self, root: Root, signer: Signer) -> None:
        """Take the verified root; a signer that it does not name is refused with SigningKeyError."""
        if signer.public_key.keyid not in root.roles["targets"].keyids:
            raise SigningKeyError("the director key in the store is not the one that the director's root names")
        self.root = root
        self._signer = signer

    def sign(self, assignment: Assignment) -> bytes:
        """Return the assignment as a DSSE envelope in compact JSON, as the device fetches it."""
        envelope = Envelope(assignment.to_payload(), PAYLOAD_TYPE, {})
        envelope.sign(self._signer)
        return json.dumps(envelope.to_dict(), separators=(",", ":")).encode()


def open_director(directory: Path, signer_of: SignerOf, now: datetime, write: Write = write_durably) -> Director:
    """Return the director whose root chain is in `directory`, made or renewed when that is due.

    Safe to call by several processes at once, at every start and daily.
    """
    roots = RootChain(directory, write)
    signer = signer_of(KeyName.DIRECTOR)
    with exclusive(directory):
        root = Root(consistent_snapshot=True)
        root.add_key(signer.public_key, "targets")
        roots.create(root, signer_of(KeyName.DIRECTOR_ROOT), whole_seconds(now))
        roots.renew(signer_of(KeyName.DIRECTOR_ROOT), whole_seconds(now))
    return Director(roots.newest(), signer)
