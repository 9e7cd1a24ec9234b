"""Sign a draft that was checked: the canonical bytes of its signed part, with a key that the role names.

There is no way around the checks: only `verify_release` makes a VerifiedDraft.
"""

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature, Signer

from controller.release_desk.published_role import check_key
from controller.release_desk.report import DeskCode, DeskRefusal
from controller.release_desk.verify import VerifiedDraft


def sign_draft(verified: VerifiedDraft, signer: Signer) -> Signature:
    """Return the signature. DeskRefusal(KEY) for a key that is not of the role, or that signs with something else."""
    published, document = verified.published, verified.draft.document
    check_key(signer.public_key, published)
    content = document.signed_bytes
    signature = signer.sign(content)
    try:
        published.keys[signer.public_key.keyid].verify_signature(signature, content)
    except UnverifiedSignatureError as error:
        told = f"what the key {signature.keyid[:12]} signed does not verify: {error}"
        raise DeskRefusal(DeskCode.KEY, told) from error
    return signature
