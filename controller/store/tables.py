"""The tables. Rows per device appear only when a device does something: enrols, takes an assignment, reports."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from controller.store.columns import BigKey, Id, Name, Sha256, UtcDateTime, metadata
from controller.store.trust_tables import (
    DEVICE_COLUMNS,
    ENROLMENT_TOKEN_COLUMNS,
    MODEL_COLUMNS,
    PIN_COLUMNS,
    ROLLOUT_COLUMNS,
    VARIANT_COLUMNS,
)

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
    *MODEL_COLUMNS,
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
    Column("calibration_sha256", Sha256, ForeignKey("artifact.sha256")),
    Column("promise", JSON),
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
    Column("recipe_document", JSON),  # the recipe as it was when the variant was asked for; NULL: opaque
    Column("search_id", Id, ForeignKey("search.id")),  # NULL: asked for by name, and published when it is proven
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_owner", String(64)),
    Column("lease_until", UtcDateTime),
    Column("progress", JSON),
    Column("error", Text),
    Column("artifact_sha256", Sha256, ForeignKey("artifact.sha256")),
    Column("golden_sha256", Sha256, ForeignKey("artifact.sha256")),
    Column("files", JSON),  # name of each file on the device: its blob, and the packed blob that travels
    Column("wire_bytes", BigInteger),
    Column("facts", JSON),
    Column("evaluation", JSON),
    Column("costs", JSON),  # by device profile; frozen when the variant is published
    Column("runtime", JSON),
    Column("target", String(256)),
    Column("manifest_sha256", Sha256, unique=True),
    Column("manifest_bytes", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    *VARIANT_COLUMNS,
    UniqueConstraint("version_id", "recipe"),
    Index("ix_variant_state", "state"),
)

recipe = Table(
    "recipe",
    metadata,
    # The operator's own; those that are built in are not here.
    Column("id", Id, primary_key=True),
    Column("name", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("document", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("name", "version"),
)

search = Table(
    "search",
    metadata,
    Column("id", Id, primary_key=True),
    Column("version_id", Id, ForeignKey("model_version.id"), nullable=False),
    Column("budget", JSON, nullable=False),
    Column("profile", Name, nullable=False),
    Column("thorough", Boolean, nullable=False),
    Column("publish", Boolean, nullable=False),
    Column("recipes", JSON),  # NULL: whatever can be followed
    Column("state", String(16), nullable=False),
    Column("explanation", Text, nullable=False),
    Column("chosen_variant_id", Id),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_search_state", "state"),
)

job_result = Table(
    "job_result",
    metadata,
    # What a job found, by the digest of everything that it depends on: identical work is done once.
    Column("key", Sha256, primary_key=True),
    Column("kind", Name, nullable=False),
    Column("result", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

job_log = Table(
    "job_log",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("variant_id", Id, ForeignKey("variant.id"), nullable=False),
    Column("job", Name, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_job_log_variant_id", "variant_id"),
)

class_factor = Table(
    "class_factor",
    metadata,
    # How much slower devices of a class are than the controller's estimate for it.
    Column("profile", Name, primary_key=True),
    Column("factor", Float, nullable=False),
    Column("variants", Integer, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

variant_rule = Table(
    "variant_rule",
    metadata,
    Column("id", Id, primary_key=True),
    Column("model_id", Id, ForeignKey("model.id"), nullable=False),
    Column("group_id", Id, ForeignKey("device_group.id"), nullable=False),
    Column("variant", Name, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    UniqueConstraint("model_id", "group_id", "variant"),
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
    *ENROLMENT_TOKEN_COLUMNS,
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
    *DEVICE_COLUMNS,
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
    *PIN_COLUMNS,
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
    *ROLLOUT_COLUMNS,
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
