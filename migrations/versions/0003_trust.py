"""Trust: operators' tokens, audit log, releases, attestations, and the identity of devices."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.String(40)
NAME = sa.String(64)
SHA256 = sa.String(64)
NEW_TABLES = (
    "report_position",
    "spent_challenge",
    "attestation",
    "release",
    "audit_head",
    "audit_entry",
    "operator_token",
)
NEW_COLUMNS: dict[str, tuple[sa.Column[object], ...]] = {
    "device": (
        sa.Column("state", sa.String(16), nullable=False, server_default="approved"),
        sa.Column("suspicion", sa.Text()),
        sa.Column("encryption_key", sa.String(64)),
        sa.Column("serial", sa.String(128)),
        sa.Column("certificate_serial", sa.String(64)),
        sa.Column("certificate_expires_at", sa.DateTime()),
    ),
    "enrolment_token": (
        sa.Column("needs_approval", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("serial", sa.String(128)),
        sa.Column("device_name", NAME),
    ),
    "rollout": (
        sa.Column("proposed_by", NAME),
        sa.Column("proposed_with", ID),
        sa.Column("approved_by", NAME),
        sa.Column("approval", sa.Text()),
        sa.Column("dev_only", sa.Boolean(), nullable=False, server_default="0"),
    ),
    "pin": (sa.Column("dev_only", sa.Boolean(), nullable=False, server_default="0"),),
    "model": (sa.Column("sealed", sa.Boolean(), nullable=False, server_default="0"),),
    "variant": (
        sa.Column("content_key", sa.String(64)),
        sa.Column("released_at", sa.DateTime()),
        sa.Column("lineage_sha256", SHA256),
        sa.Column("release_floor", sa.Integer()),
        sa.Column("release_hardware", sa.JSON()),
    ),
}


def upgrade() -> None:
    _create_operators()
    _create_releases()
    _create_identity()
    for table, columns in NEW_COLUMNS.items():
        with op.batch_alter_table(table) as changed:
            for column in columns:
                changed.add_column(column)


def downgrade() -> None:
    for table, columns in NEW_COLUMNS.items():
        with op.batch_alter_table(table) as changed:
            for column in columns:
                changed.drop_column(column.name)
    for table in NEW_TABLES:
        op.drop_table(table)


def _create_operators() -> None:
    op.create_table(
        "operator_token",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", NAME, nullable=False),
        sa.Column("secret_hash", SHA256, nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("network", sa.String(64)),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("last_used_at", sa.DateTime()),
        sa.Column("revoked_at", sa.DateTime()),
    )
    op.create_table(
        "audit_entry",
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("action", NAME, nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("previous", SHA256, nullable=False),
        sa.Column("sha256", SHA256, nullable=False),
    )
    op.create_index("ix_audit_entry_at", "audit_entry", ["at"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.SmallInteger(), primary_key=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("sha256", SHA256, nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "sha256": "0" * 64}])


def _create_releases() -> None:
    op.create_table(
        "release",
        sa.Column("id", ID, primary_key=True),
        sa.Column("model_id", ID, sa.ForeignKey("model.id"), nullable=False),
        sa.Column("version_id", ID, sa.ForeignKey("model_version.id")),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("proposed_by", NAME, nullable=False),
        sa.Column("proposed_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime()),
    )
    op.create_index("ix_release_model_id_state", "release", ["model_id", "state"])
    op.create_table(
        "attestation",
        sa.Column("sha256", SHA256, primary_key=True),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("subject_sha256", SHA256, nullable=False),
        sa.Column("version_id", ID, sa.ForeignKey("model_version.id"), nullable=False),
        sa.Column("variant_id", ID, sa.ForeignKey("variant.id")),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("keyid", SHA256, nullable=False),
        sa.Column("public_key", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_attestation_version_id", "attestation", ["version_id"])
    op.create_index("ix_attestation_subject_sha256", "attestation", ["subject_sha256"])


def _create_identity() -> None:
    op.create_table(
        "spent_challenge",
        sa.Column("challenge", SHA256, primary_key=True),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_spent_challenge_expires_at", "spent_challenge", ["expires_at"])
    op.create_table(
        "report_position",
        sa.Column("device_id", ID, sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("spool", sa.String(64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("batch", sa.String(64), nullable=False),
        sa.Column("former_spools", sa.JSON(), nullable=False),
    )
