"""Print every step of a seed: `./run exec python -m tests.simulation SEED`."""

import sys
import tempfile
from pathlib import Path

from controller.store import migrate
from tests.simulation.empty_database import empty_database
from tests.simulation.simulation import play
from tests.support.fleet import plain_director


def main(seed: int) -> None:
    """Play the seed; a breach ends the program with its rule and the steps before it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        migrate.upgrade(f"sqlite:///{directory / 'template.db'}")
        director = plain_director()
        with empty_database(directory / "template.db", directory / "simulation.db") as engine:
            played = play(seed, engine, director)
    print("\n".join(played.trace))
    print(", ".join(f"{times} {what}" for what, times in sorted(played.happened.items())))


if __name__ == "__main__":
    main(int(sys.argv[1]))
