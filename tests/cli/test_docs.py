"""The commands and formats that the documentation names are there, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from tsporec.cli.app import app
from tsporec.data.readers import FORMATS

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_have_the_options_that_pages_give_them(page):
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        for name, arguments in re.findall(r"\btsporec (\w+)([^&|#]*)", line):
            known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
            known |= {option for parameter in COMMANDS[name].params for option in parameter.secondary_opts}
            assert set(re.findall(r"--[\w-]+", arguments)) <= known, line


def test_the_pages_list_every_command_and_every_format():
    cli, data = ((ROOT / "docs" / name).read_text() for name in ("cli.md", "data.md"))
    assert all(f"`{name}`" in cli for name in COMMANDS)
    assert all(f"| `{name}`" in data for name in FORMATS)
    listed = next(parameter for parameter in COMMANDS["train"].params if "--format" in parameter.opts).help
    assert all(name in listed for name in FORMATS)
