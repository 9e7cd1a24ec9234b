"""The page on keys, walked as a reader walks it: every block as it stands, in order, in one empty folder."""

import os
import sys
from pathlib import Path

from tests.support.pages import blocks_of
from tests.support.terminal import a_terminal

PAGE = Path(__file__).parents[4] / "docs/how-to/keys.md"


def test_every_command_of_the_page_on_keys_does_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EDGEFLEET_")}
    environment = {**inherited, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    with a_terminal(folder, tmp_path / "typed.sh", environment) as terminal:
        for block in blocks_of(PAGE):
            if block.file_name:
                (folder / block.file_name).write_text(block.text)
            else:
                terminal.type(block.text)

    assert "exit code 3: somebody is missing" in terminal.printed
    assert "image-targets version" in terminal.printed
    assert "director-root version 2 is in force" in terminal.printed
    assert "the signer has a new key image-bins" in terminal.printed
