"""Writes the next script from the difference between the tables and the scripts so far.

`python -m migrations "add the colour of a device"` adds a file to `migrations/versions/`. Read and complete it:
the difference shows columns, never the data that has to move.
"""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory

from controller.store.database import open_engine
from controller.store.migrate import scripts, upgrade


def main(message: str) -> None:
    """Compare an empty SQLite database, brought to the newest script, with `controller/store/tables.py`."""
    number = len(list(ScriptDirectory.from_config(scripts()).walk_revisions())) + 1
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'scratch.db'}"
        upgrade(url)
        engine = open_engine(url)
        with engine.connect() as connection:
            command.revision(scripts(connection), message, autogenerate=True, rev_id=f"{number:04}")
        engine.dispose()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or sys.exit('usage: python -m migrations "what changes"'))
