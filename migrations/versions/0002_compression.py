"""Compression that proves itself: recipes of operators, searches, remembered results, logs, costs and rules."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(40)
NAME = sa.String(64)
SHA256 = sa.String(64)
BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NEW_TABLES = ("variant_rule", "class_factor", "job_log", "job_result", "search", "recipe")
NEW_COLUMNS = {
    "model_version": ("calibration_sha256", "promise"),
    "variant": ("recipe_document", "search_id", "progress", "files", "costs"),
}
NEW_KEYS = {
    "model_version": "fk_model_version_calibration_sha256_artifact",
    "variant": "fk_variant_search_id_search",
}


def upgrade() -> None:
    _create_recipes_and_searches()
    _extend_catalogue()
    _create_jobs()
    _create_choices()


def downgrade() -> None:
    for table, columns in NEW_COLUMNS.items():
        with op.batch_alter_table(table) as changed:
            changed.drop_constraint(NEW_KEYS[table], type_="foreignkey")
            for column in columns:
                changed.drop_column(column)
    for table in NEW_TABLES:
        op.drop_table(table)


def _create_recipes_and_searches() -> None:
    op.create_table(
        "recipe",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("name", "version", name="uq_recipe_name_version"),
    )
    op.create_table(
        "search",
        sa.Column("id", ID, primary_key=True),
        sa.Column("version_id", ID, sa.ForeignKey("model_version.id"), nullable=False),
        sa.Column("budget", sa.JSON(), nullable=False),
        sa.Column("profile", NAME, nullable=False),
        sa.Column("thorough", sa.Boolean(), nullable=False),
        sa.Column("publish", sa.Boolean(), nullable=False),
        sa.Column("recipes", sa.JSON()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("chosen_variant_id", ID),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_search_state", "search", ["state"])


def _extend_catalogue() -> None:
    with op.batch_alter_table("model_version") as version:
        version.add_column(sa.Column("calibration_sha256", SHA256))
        version.add_column(sa.Column("promise", sa.JSON()))
        version.create_foreign_key(NEW_KEYS["model_version"], "artifact", ["calibration_sha256"], ["sha256"])
    with op.batch_alter_table("variant") as variant:
        for name in ("recipe_document", "progress", "files", "costs"):
            variant.add_column(sa.Column(name, sa.JSON()))
        variant.add_column(sa.Column("search_id", ID))
        variant.create_foreign_key(NEW_KEYS["variant"], "search", ["search_id"], ["id"])


def _create_jobs() -> None:
    op.create_table(
        "job_result",
        sa.Column("key", SHA256, primary_key=True),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "job_log",
        sa.Column("id", BIG_KEY, primary_key=True),
        sa.Column("variant_id", ID, sa.ForeignKey("variant.id"), nullable=False),
        sa.Column("job", NAME, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
    )
    op.create_index("ix_job_log_variant_id", "job_log", ["variant_id"])


def _create_choices() -> None:
    op.create_table(
        "class_factor",
        sa.Column("profile", NAME, primary_key=True),
        sa.Column("factor", sa.Float(), nullable=False),
        sa.Column("variants", sa.Integer(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "variant_rule",
        sa.Column("id", ID, primary_key=True),
        sa.Column("model_id", ID, sa.ForeignKey("model.id"), nullable=False),
        sa.Column("group_id", ID, sa.ForeignKey("device_group.id"), nullable=False),
        sa.Column("variant", NAME, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("decided_at", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("model_id", "group_id", "variant", name="uq_variant_rule_model_id_group_id_variant"),
    )
