"""What Alembic runs: the scripts, inside the transaction that `controller/store/migrate.py` has opened."""

from alembic import context

import controller.store.tables  # noqa: F401  # it declares the tables
from controller.store.columns import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    # SQLite cannot alter most of a table; batch mode copies it, and is a plain ALTER on PostgreSQL.
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
