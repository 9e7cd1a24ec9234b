"""The tables of trust: who may do what, what was done, what was released and how it came to be.

No secret is ever in a row: tokens are stored as hashes, keys live with the signer.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
)

from controller.store.columns import Id, Name, Sha256, UtcDateTime, metadata

operator_token = Table(
    "operator_token",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Name, nullable=False),
    Column("secret_hash", Sha256, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("network", String(64)),  # CIDR; NULL: from anywhere
    Column("created_by", Name, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

audit_entry = Table(
    "audit_entry",
    metadata,
    # Each row's hash covers the row before it: a row that is changed, taken out or put in between breaks the chain.
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Name, nullable=False),
    Column("action", Name, nullable=False),
    Column("subject", String(256), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("previous", Sha256, nullable=False),
    Column("sha256", Sha256, nullable=False),
    Index("ix_audit_entry_at", "at"),
)

audit_head = Table(
    "audit_head",
    metadata,
    # One row: whoever appends locks it first.
    Column("id", SmallInteger, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("sha256", Sha256, nullable=False),
)

release = Table(
    "release",
    metadata,
    Column("id", Id, primary_key=True),
    Column("model_id", Id, ForeignKey("model.id"), nullable=False),
    Column("version_id", Id, ForeignKey("model_version.id")),  # NULL: the role is only renewed
    Column("kind", String(16), nullable=False),  # release, withdraw, renew
    Column("state", String(16), nullable=False),
    Column("document", LargeBinary, nullable=False),  # the role as it will be published, with the signatures so far
    Column("proposed_by", Name, nullable=False),
    Column("proposed_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_release_model_id_state", "model_id", "state"),
)

attestation = Table(
    "attestation",
    metadata,
    Column("sha256", Sha256, primary_key=True),  # of the envelope
    Column("kind", Name, nullable=False),  # import, step, golden, evaluation, model_signing
    Column("subject_sha256", Sha256, nullable=False),
    Column("version_id", Id, ForeignKey("model_version.id"), nullable=False),
    Column("variant_id", Id, ForeignKey("variant.id")),
    Column("envelope", LargeBinary, nullable=False),
    Column("keyid", Sha256, nullable=False),
    Column("public_key", JSON, nullable=False),  # the signer forgets keys that were rotated out
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_attestation_version_id", "version_id"),
    Index("ix_attestation_subject_sha256", "subject_sha256"),
)

spent_challenge = Table(
    "spent_challenge",
    metadata,
    Column("challenge", Sha256, primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_spent_challenge_expires_at", "expires_at"),
)

report_position = Table(
    "report_position",
    metadata,
    # Where each device's reports stand: what is behind it was taken once, or tells of a copied key.
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("spool", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("batch", String(64), nullable=False),
    Column("former_spools", JSON, nullable=False),
)

DEVICE_COLUMNS = (
    Column("state", String(16), nullable=False, server_default="approved"),
    Column("suspicion", Text),
    Column("encryption_key", String(64)),
    Column("serial", String(128)),
    Column("certificate_serial", String(64)),
    Column("certificate_expires_at", UtcDateTime),
)
"""What identity adds to the table `device`."""

ENROLMENT_TOKEN_COLUMNS = (
    Column("needs_approval", Boolean, nullable=False, server_default="0"),
    Column("serial", String(128)),
    Column("device_name", Name),
)

ROLLOUT_COLUMNS = (
    Column("proposed_by", Name),
    Column("proposed_with", Id),  # the proposer's token
    Column("approved_by", Name),
    Column("approval", Text),  # the signed approval, where the signer asks for one
    Column("dev_only", Boolean, nullable=False, server_default="0"),  # decided by one person where two are needed
)

PIN_COLUMNS = (Column("dev_only", Boolean, nullable=False, server_default="0"),)

MODEL_COLUMNS = (Column("sealed", Boolean, nullable=False, server_default="0"),)  # its variants travel encrypted

VARIANT_COLUMNS = (
    Column("content_key", String(64)),  # names the key that it is sealed with, which is nowhere here; NULL: not sealed
    Column("released_at", UtcDateTime),
    Column("lineage_sha256", Sha256),  # the bundle of attestations that the manifest names
    Column("release_floor", Integer),
    Column("release_hardware", JSON),  # the profiles that it is released for; NULL: all
)
