"""A fresh SQLite database for one seed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, event

from controller.store.database import open_engine


@contextmanager
def empty_database(template: Path, file: Path) -> Iterator[Engine]:
    """Copy the migrated template to the file, which is deleted at the end."""
    shutil.copy(template, file)
    engine = open_engine(f"sqlite:///{file}")
    # No simulated power cut reaches the controller's disk, so nothing has to wait for it.
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    try:
        yield engine
    finally:
        engine.dispose()
        for left in file.parent.glob(f"{file.name}*"):
            left.unlink()
