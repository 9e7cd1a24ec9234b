"""Which in-toto statements the signer signs: each kind under its key says only what that kind may say."""

import json

from controller.trust.errors import SignerCode, SignerRefused
from controller.trust.lineage.statements import SLSA, STATEMENT, TEST_RESULT
from controller.trust.signer.interface import StatementKind

STATEMENT_BYTES_MAX = 4 * 1024**2
PREDICATES = {
    StatementKind.PROVENANCE: (SLSA, TEST_RESULT),
    StatementKind.MODEL_SIGNING: ("https://model_signing/signature/v1.0",),
}


def check_statement(kind: StatementKind, statement: bytes) -> None:
    """Return when this statement may be signed under the key of its kind; SignerRefused otherwise."""
    if len(statement) > STATEMENT_BYTES_MAX:
        raise _refused(f"the statement has {len(statement)} bytes; at most {STATEMENT_BYTES_MAX}")
    try:
        body = json.loads(statement)
        kind_said, predicate, subjects = body["_type"], body["predicateType"], body["subject"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(f"no in-toto statement: {error!r}") from error
    if kind_said != STATEMENT or predicate not in PREDICATES[kind]:
        raise _refused(f"{kind} does not sign {predicate!r} in {kind_said!r}; it signs {', '.join(PREDICATES[kind])}")
    if not isinstance(subjects, list) or not subjects:
        raise _refused("the statement has no subject")


def _refused(detail: str) -> SignerRefused:
    return SignerRefused(detail, code=SignerCode.CONTENT)
