"""The tables. Types are chosen so that SQLite and PostgreSQL keep the same values.

Moments are stored in UTC without a zone and read back aware; ids are text; JSON is JSON. Rows per device
appear only when a device does something: enrols, takes an assignment, reports.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite forgets zones, so none is stored; a naive value is refused."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Store as naive UTC."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Read back aware."""
        return value and value.replace(tzinfo=UTC)


Id = String(40)
Sha256 = String(64)
Name = String(64)
BigKey = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column that is declared INTEGER."""

# --- the catalogue

artifact = Table(
    "artifact",
    metadata,
    Column("sha256", Sha256, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

model = Table(
    "model",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Name, nullable=False, unique=True),
    Column("notes", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

model_version = Table(
    "model_version",
    metadata,
    Column("id", Id, primary_key=True),
    Column("model_id", Id, ForeignKey("model.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("format", Name, nullable=False),
    Column("artifact_sha256", Sha256, ForeignKey("artifact.sha256"), nullable=False),
    Column("evaluation_sha256", Sha256, ForeignKey("artifact.sha256")),
    Column("inspection", JSON),
    Column("notes", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("model_id", "number"),
)

variant = Table(
    "variant",
    metadata,
    Column("id", Id, primary_key=True),
    Column("version_id", Id, ForeignKey("model_version.id"), nullable=False),
    Column("recipe", Name, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_owner", String(64)),
    Column("lease_until", UtcDateTime),
    Column("error", Text),
    Column("artifact_sha256", Sha256, ForeignKey("artifact.sha256")),
    Column("golden_sha256", Sha256, ForeignKey("artifact.sha256")),
    Column("wire_bytes", BigInteger),
    Column("facts", JSON),
    Column("evaluation", JSON),
    Column("runtime", JSON),
    Column("target", String(256)),
    Column("manifest_sha256", Sha256, unique=True),
    Column("manifest_bytes", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("version_id", "recipe"),
    Index("ix_variant_state", "state"),
)

image_repository = Table(
    "image_repository",
    metadata,
    # One row: whoever publishes locks it first, so that publications follow each other.
    Column("id", SmallInteger, primary_key=True),
    Column("published_at", UtcDateTime),
)

# --- the fleet

enrolment_token = Table(
    "enrolment_token",
    metadata,
    Column("id", Id, primary_key=True),
    Column("secret_hash", Sha256, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

device = Table(
    "device",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Name, nullable=False, unique=True),
    Column("public_key_pem", Text, nullable=False),
    Column("profile", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("token_id", Id, ForeignKey("enrolment_token.id")),
    Column("enrolled_at", UtcDateTime, nullable=False),
)

device_seen = Table(
    "device_seen",
    metadata,
    # Apart from `device`, because it is written all the time.
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)

device_slot = Table(
    "device_slot",
    metadata,
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("slot", Name, primary_key=True),
    Column("manifest_sha256", Sha256),
    Column("variant_id", Id, ForeignKey("variant.id")),
    Column("version_id", Id, ForeignKey("model_version.id")),
    Column("state", String(16), nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_device_slot_version_id", "version_id"),
)

refusal = Table(
    "refusal",
    metadata,
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("manifest_sha256", Sha256, primary_key=True),
    Column("code", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

device_group = Table(
    "device_group",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Name, nullable=False, unique=True),
    Column("selector", Text),  # NULL: a static list, in device_group_member
    Column("created_at", UtcDateTime, nullable=False),
)

device_group_member = Table(
    "device_group_member",
    metadata,
    Column("group_id", Id, ForeignKey("device_group.id"), primary_key=True),
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
)

# --- what is wanted

pin = Table(
    "pin",
    metadata,
    Column("id", Id, primary_key=True),
    Column("model_id", Id, ForeignKey("model.id"), nullable=False),
    Column("group_id", Id, ForeignKey("device_group.id"), nullable=False),
    Column("version_id", Id, ForeignKey("model_version.id"), nullable=False),
    Column("soak_s", Float, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    UniqueConstraint("model_id", "group_id"),
)

rollout = Table(
    "rollout",
    metadata,
    Column("id", Id, primary_key=True),
    Column("model_id", Id, ForeignKey("model.id"), nullable=False),
    Column("group_id", Id, ForeignKey("device_group.id"), nullable=False),
    Column("from_version_id", Id, ForeignKey("model_version.id")),
    Column("to_version_id", Id, ForeignKey("model_version.id"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("stages", JSON, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("gate", JSON, nullable=False),
    Column("explanation", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("state_since", UtcDateTime, nullable=False),
    Index("ix_rollout_state", "state"),
)

# --- what happened

assignment = Table(
    "assignment",
    metadata,
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("slots", JSON, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("issued_at", UtcDateTime, nullable=False),
)

outcome = Table(
    "outcome",
    metadata,
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("counter", BigInteger, primary_key=True),
    Column("slot", Name, primary_key=True),
    Column("rollout_id", Id, ForeignKey("rollout.id")),
    Column("stage", Integer),
    Column("version_id", Id, ForeignKey("model_version.id")),
    Column("manifest_sha256", Sha256),
    Column("state", String(16), nullable=False),
    Column("failure_stage", String(16)),
    Column("code", String(64)),
    Column("message", Text),
    Column("taken_at", UtcDateTime, nullable=False),
    Column("silent_at", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime),
    Index("ix_outcome_rollout_id_state", "rollout_id", "state"),
    Index("ix_outcome_state_silent_at", "state", "silent_at"),
)

report_batch = Table(
    "report_batch",
    metadata,
    Column("device_id", Id, ForeignKey("device.id"), primary_key=True),
    Column("batch", String(64), primary_key=True),
    Column("received_at", UtcDateTime, nullable=False),
)

serving_report = Table(
    "serving_report",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("device_id", Id, ForeignKey("device.id"), nullable=False),
    Column("slot", Name, nullable=False),
    Column("manifest_sha256", Sha256, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("window_s", Float, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("input_bytes", BigInteger, nullable=False),
    Column("latency", JSON, nullable=False),
    Index("ix_serving_report_manifest_sha256_at", "manifest_sha256", "at"),
)

event = Table(
    "event",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Name, nullable=False),
    Column("kind", Name, nullable=False),
    Column("subject", Id, nullable=False),
    Column("message", Text, nullable=False),
    Index("ix_event_subject", "subject"),
)

# --- how processes agree

change_counter = Table(
    "change_counter",
    metadata,
    Column("id", SmallInteger, primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

change_log = Table(
    "change_log",
    metadata,
    # The counter's row lock makes the order of seq the order of the commits.
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("device_id", Id),  # NULL: the policy changed, which concerns every device
    Column("at", UtcDateTime, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("name", Name, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("until", UtcDateTime, nullable=False),
)

Row = dict[str, Any]
"""A row to be written."""
