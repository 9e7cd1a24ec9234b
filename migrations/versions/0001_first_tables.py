"""The first tables, and the rows that must exist from the start.

The columns are written out and not taken from `controller/store/tables.py`: that file moves on, this script
must go on making what it made when it was released.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(40)
NAME = sa.String(64)
SHA256 = sa.String(64)
BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_catalogue()
    _create_fleet()
    _create_policy()
    _create_history()
    _create_coordination()
    _add_first_rows()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _create_catalogue() -> None:
    op.create_table(
        "artifact",
        sa.Column("sha256", SHA256, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "model",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", NAME, nullable=False, unique=True),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "model_version",
        sa.Column("id", ID, primary_key=True),
        sa.Column("model_id", ID, sa.ForeignKey("model.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("format", NAME, nullable=False),
        sa.Column("artifact_sha256", SHA256, sa.ForeignKey("artifact.sha256"), nullable=False),
        sa.Column("evaluation_sha256", SHA256, sa.ForeignKey("artifact.sha256")),
        sa.Column("inspection", sa.JSON),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("model_id", "number"),
    )
    op.create_table(
        "variant",
        sa.Column("id", ID, primary_key=True),
        sa.Column("version_id", ID, sa.ForeignKey("model_version.id"), nullable=False),
        sa.Column("recipe", NAME, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease_owner", sa.String(64)),
        sa.Column("lease_until", sa.DateTime),
        sa.Column("error", sa.Text),
        sa.Column("artifact_sha256", SHA256, sa.ForeignKey("artifact.sha256")),
        sa.Column("golden_sha256", SHA256, sa.ForeignKey("artifact.sha256")),
        sa.Column("wire_bytes", sa.BigInteger),
        sa.Column("facts", sa.JSON),
        sa.Column("evaluation", sa.JSON),
        sa.Column("runtime", sa.JSON),
        sa.Column("target", sa.String(256)),
        sa.Column("manifest_sha256", SHA256, unique=True),
        sa.Column("manifest_bytes", sa.Integer),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("version_id", "recipe"),
    )
    op.create_index("ix_variant_state", "variant", ["state"])
    op.create_table(
        "image_repository",
        sa.Column("id", sa.SmallInteger, primary_key=True),
        sa.Column("published_at", sa.DateTime),
    )


def _create_fleet() -> None:
    op.create_table(
        "enrolment_token",
        sa.Column("id", ID, primary_key=True),
        sa.Column("secret_hash", SHA256, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("uses_left", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.DateTime, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "device",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", NAME, nullable=False, unique=True),
        sa.Column("public_key_pem", sa.Text, nullable=False),
        sa.Column("profile", sa.JSON, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("token_id", ID, sa.ForeignKey("enrolment_token.id")),
        sa.Column("enrolled_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "device_seen",
        sa.Column("device_id", ID, sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "device_slot",
        sa.Column("device_id", ID, sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("slot", NAME, primary_key=True),
        sa.Column("manifest_sha256", SHA256),
        sa.Column("variant_id", ID, sa.ForeignKey("variant.id")),
        sa.Column("version_id", ID, sa.ForeignKey("model_version.id")),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
    )
    op.create_index("ix_device_slot_version_id", "device_slot", ["version_id"])
    op.create_table(
        "refusal",
        sa.Column("device_id", ID, sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("manifest_sha256", SHA256, primary_key=True),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "device_group",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", NAME, nullable=False, unique=True),
        sa.Column("selector", sa.Text),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "device_group_member",
        sa.Column("group_id", ID, sa.ForeignKey("device_group.id"), primary_key=True),
        sa.Column("device_id", ID, sa.ForeignKey("device.id"), primary_key=True),
    )


def _create_policy() -> None:
    op.create_table(
        "pin",
        sa.Column("id", ID, primary_key=True),
        sa.Column("model_id", ID, sa.ForeignKey("model.id"), nullable=False),
        sa.Column("group_id", ID, sa.ForeignKey("device_group.id"), nullable=False),
        sa.Column("version_id", ID, sa.ForeignKey("model_version.id"), nullable=False),
        sa.Column("soak_s", sa.Float, nullable=False),
        sa.Column("decided_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("model_id", "group_id"),
    )
    op.create_table(
        "rollout",
        sa.Column("id", ID, primary_key=True),
        sa.Column("model_id", ID, sa.ForeignKey("model.id"), nullable=False),
        sa.Column("group_id", ID, sa.ForeignKey("device_group.id"), nullable=False),
        sa.Column("from_version_id", ID, sa.ForeignKey("model_version.id")),
        sa.Column("to_version_id", ID, sa.ForeignKey("model_version.id"), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stages", sa.JSON, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("gate", sa.JSON, nullable=False),
        sa.Column("explanation", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("state_since", sa.DateTime, nullable=False),
    )
    op.create_index("ix_rollout_state", "rollout", ["state"])


def _create_history() -> None:
    op.create_table(
        "assignment",
        sa.Column("device_id", ID, sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("counter", sa.BigInteger, nullable=False),
        sa.Column("slots", sa.JSON, nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("issued_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "outcome",
        sa.Column("device_id", ID, sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("counter", sa.BigInteger, primary_key=True),
        sa.Column("slot", NAME, primary_key=True),
        sa.Column("rollout_id", ID, sa.ForeignKey("rollout.id")),
        sa.Column("stage", sa.Integer),
        sa.Column("version_id", ID, sa.ForeignKey("model_version.id")),
        sa.Column("manifest_sha256", SHA256),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failure_stage", sa.String(16)),
        sa.Column("code", sa.String(64)),
        sa.Column("message", sa.Text),
        sa.Column("taken_at", sa.DateTime, nullable=False),
        sa.Column("silent_at", sa.DateTime, nullable=False),
        sa.Column("decided_at", sa.DateTime),
    )
    op.create_index("ix_outcome_rollout_id_state", "outcome", ["rollout_id", "state"])
    op.create_index("ix_outcome_state_silent_at", "outcome", ["state", "silent_at"])
    op.create_table(
        "report_batch",
        sa.Column("device_id", ID, sa.ForeignKey("device.id"), primary_key=True),
        sa.Column("batch", sa.String(64), primary_key=True),
        sa.Column("received_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "serving_report",
        sa.Column("id", BIG_KEY, primary_key=True),
        sa.Column("device_id", ID, sa.ForeignKey("device.id"), nullable=False),
        sa.Column("slot", NAME, nullable=False),
        sa.Column("manifest_sha256", SHA256, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("window_s", sa.Float, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("errors", sa.BigInteger, nullable=False),
        sa.Column("input_bytes", sa.BigInteger, nullable=False),
        sa.Column("latency", sa.JSON, nullable=False),
    )
    op.create_index("ix_serving_report_manifest_sha256_at", "serving_report", ["manifest_sha256", "at"])
    op.create_table(
        "event",
        sa.Column("id", BIG_KEY, primary_key=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("subject", ID, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
    )
    op.create_index("ix_event_subject", "event", ["subject"])


def _create_coordination() -> None:
    op.create_table(
        "change_counter",
        sa.Column("id", sa.SmallInteger, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "change_log",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("device_id", ID),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "lease",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("until", sa.DateTime, nullable=False),
    )


def _add_first_rows() -> None:
    op.execute("INSERT INTO change_counter (id, seq) VALUES (1, 0)")
    op.execute("INSERT INTO image_repository (id) VALUES (1)")
    group = sa.table(
        "device_group",
        sa.column("id", ID),
        sa.column("name", NAME),
        sa.column("selector", sa.Text),
        sa.column("created_at", sa.DateTime),
    )
    now = datetime.now(UTC).replace(tzinfo=None)
    # The empty selector matches every device, also those that enrol tomorrow.
    op.bulk_insert(group, [{"id": "gr_all", "name": "all", "selector": "", "created_at": now}])


TABLES = (
    "artifact",
    "model",
    "model_version",
    "variant",
    "image_repository",
    "enrolment_token",
    "device",
    "device_seen",
    "device_slot",
    "refusal",
    "device_group",
    "device_group_member",
    "pin",
    "rollout",
    "assignment",
    "outcome",
    "report_batch",
    "serving_report",
    "event",
    "change_counter",
    "change_log",
    "lease",
)
"""In the order of their making: a table comes after those that it refers to."""
