"""Trust anchors: the newest root documents that this device has without asking anybody.

A device starts from the documents of its enrolment. A package of the agent may bring newer ones, so that a device that
was long offline has few rotations to follow, and so that a fleet whose root keys were lost can be given new ones.
"""

import logging
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from device_agent.protocol.errors import Code, ProtocolError

_log = logging.getLogger(__name__)
IMAGE_ROOT_FILE = "image-root.json"
DIRECTOR_ROOT_FILE = "director-root.json"


def newest_anchor(enrolled: bytes, anchors_dir: str, name: str) -> bytes:
    """Return the packaged document, where its version is not below the enrolled one's; else the enrolled one.

    A package that cannot be read, or whose document its own keys did not sign, is logged and left alone: what was
    pinned at the enrolment is still there.
    """
    if not anchors_dir:
        return enrolled
    path = Path(anchors_dir) / name
    try:
        packaged = path.read_bytes()
        version = _verified_version(packaged)
    except FileNotFoundError:
        return enrolled
    except (OSError, RepositoryError, ProtocolError) as error:
        _log.error("the trust anchor %s cannot be used: %s; going on from the enrolment's", path, error)
        return enrolled
    return packaged if version >= _verified_version(enrolled) else enrolled


def _verified_version(raw: bytes) -> int:
    document: Metadata[Root] = Metadata.from_bytes(raw)
    if document.signed.type != Root.type:
        raise ProtocolError(Code.WRONG_TYPE, f"metadata of type {document.signed.type}", role="anchor")
    document.signed.verify_delegate(Root.type, document.signed_bytes, document.signatures)
    return int(document.signed.version)
