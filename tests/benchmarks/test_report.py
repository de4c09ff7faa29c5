"""The report shows what the cells hold, and what they do not hold as missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cells import Cell, add_fit, measured, write_rows
from benchmarks.quality import BUDGETS, CASES, NEW_ITEMS
from benchmarks.report import draw, fill, quality_block, short_block
from benchmarks.summary import level_with_whole, summarise
from tsporec.evaluation.task import Task
from tsporec.metrics import ndcg, paired_bootstrap
from tsporec.tokens.ragged import RaggedTokens

ORIGIN = {"commit": "abc", "seed": 0, "versions": {}, "hardware": {"threads": 1, "cpu": "one"}}
USERS, ITEMS = 40, 30
# The larger, the worse the ranks.
STRENGTH = {("head", 8): 20, ("tfidf", 8): 12, ("selector", 8): 4, ("selector", 16): 3, (NEW_ITEMS, 8): 6,
            ("full", None): 3}  # fmt: skip


def ranks_of(scorer: str, budget: int | None, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, len(scorer), budget or 0])
    return 1 + rng.integers(0, STRENGTH[scorer, budget], 2 * USERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Cells of films: no self-information, and one seed of the selector at 16."""
    folder = tmp_path_factory.mktemp("cells")
    rows = [[i % ITEMS, (i + 1) % ITEMS] for i in range(2 * USERS)]
    task = Task(RaggedTokens.from_lists([[i] * 9 for i in range(ITEMS)]), [[0, 1]], [[0, 1]], rows,
                [str(i // 2) for i in range(2 * USERS)])  # fmt: skip
    write_rows(folder, "films-embedding-rows", task, {"rows": "test"}, ORIGIN)
    for scorer, budget in STRENGTH:
        for seed in [0] if budget == 16 else [0, 1]:
            seconds = {"score": 1.0, "encode": 2.0}
            fit = {
                "seed": seed,
                **measured(task, ranks_of(scorer, budget, seed)),
                "tokens": 8 * ITEMS,
                "seconds": seconds,
            }
            add_fit(folder, Cell("films", "embedding", scorer, budget), {}, fit, ORIGIN)
    return folder


@pytest.fixture(scope="module")
def summary(folder):
    return summarise(folder, ["films", "Scientific"], list(CASES), BUDGETS)


def cell_of(summary, scorer, budget):
    return next(
        c for c in summary["films"]["embedding"]["cells"] if (c["scorer"], c["budget"]) == (scorer, budget)
    )  # fmt: skip


def test_differences_are_paired_over_users_and_common_seeds(summary):
    users = [str(i // 2) for i in range(2 * USERS)]
    ours, theirs = ([ndcg(ranks_of(name, 8, seed), 10) for seed in (0, 1)] for name in ("selector", "tfidf"))
    cell = cell_of(summary, "selector", 8)
    assert cell["mean"]["ndcg@10"] == pytest.approx(np.mean(ours))
    best = cell["versus"]["best baseline"]
    assert (best["scorer"], best["seeds"]) == ("tfidf", [0, 1])
    assert best["ndcg@10"] == pytest.approx(paired_bootstrap(np.mean(ours, 0), np.mean(theirs, 0), users))
    assert cell["tokens"] == 8
    assert best["ndcg@10 gain"] == pytest.approx(np.mean(ours) / np.mean(theirs) - 1)
    assert cell_of(summary, "selector", 16)["versus"]["full"]["seeds"] == [0]
    assert "best baseline" not in cell_of(summary, "tfidf", 8)["versus"]


def test_new_items_are_compared_on_their_own_rows(summary):
    later = np.array([(i + 1) % ITEMS % 5 == 4 for i in range(2 * USERS)])
    users = [str(i // 2) for i in np.flatnonzero(later)]
    ours, theirs = ([ndcg(ranks_of(name, 8, seed), 10)[later] for seed in (0, 1)] for name in (NEW_ITEMS, "tfidf"))
    found = summary["films"]["embedding"]
    assert found["rows_of_new_items"] == later.sum()
    assert found["new_items"][0]["mean"]["tfidf"] == pytest.approx(np.mean(theirs))
    best = found["new_items"][0]["versus"]["best baseline"]
    assert best["ndcg@10"] == pytest.approx(paired_bootstrap(np.mean(ours, 0), np.mean(theirs, 0), users))
    assert f"| 8 | {found['new_items'][0]['mean']['head']:.4f} | tfidf 0." in quality_block(summary)


def test_what_is_missing_is_shown_as_missing(summary):
    page = quality_block(summary)
    assert "### Scientific, embedding\n\nmissing" in page
    films = page[page.index("### films") :]
    rows = {line.split(" | ")[0].strip("| "): line for line in films.split("| Recall@10 |")[0].splitlines()}
    assert rows["self_information"].count("missing") == 5
    assert "**" in rows["selector"]
    assert "(1 seed)" in rows["selector"]
    assert rows["full"].count("missing") == 0
    assert "| selector | 8 | tfidf (of 2) | +0." in films
    assert "llmlingua2" not in page
    assert "| head | missing | missing | 33.33 + 66.67 |" in films
    assert "missing" in short_block(summary)
    assert f"{cell_of(summary, 'head', 8)['mean']['ndcg@10']:.4f}" in short_block(summary)


def test_the_budget_that_is_level_with_the_whole_text(summary):
    assert level_with_whole(summary["films"]["embedding"], "selector") in (8, 16)
    assert level_with_whole(summary["films"]["embedding"], "rule") is None


def test_pages_and_figures_are_made_again_alike(folder, summary, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- begin quality -->\nold\n<!-- end quality -->\n"
        "<!-- begin quality figures --><!-- end quality figures -->\nafter\n"
    )
    command = [sys.executable, "-m", "benchmarks.report", "--results", str(folder), "--pages", str(page), "--json",
               "--figures", str(tmp_path / "figures")]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert json.loads(done.stdout)["films"]["embedding"]["level_with_whole_text"]["rule"] is None
    made = page.read_text()
    assert made.startswith(f"before\n<!-- begin quality -->\n\n{quality_block(summary)}\n\n<!-- end quality -->\n")
    for name in ("quality", "time", "gain"):
        assert f"![{name}](figures/{name}.svg)" in made
    with pytest.raises(ValueError, match="no block"):
        fill("no marks", {"quality": ""})
    first = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert first == {path.name: path.read_bytes() for path in draw(summary, tmp_path / "figures")}


RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "quality"


def test_the_pages_hold_the_tables_of_the_results():
    if not (RESULTS / "summary.json").exists():
        pytest.skip("the suite has no results yet")
    committed = json.loads((RESULTS / "summary.json").read_text())
    assert quality_block(committed) in (RESULTS.parents[2] / "docs" / "benchmarks.md").read_text()
    assert short_block(committed) in (RESULTS.parents[2] / "README.md").read_text()
    cells = [Cell(name, case, one.get("scorer", NEW_ITEMS), one["budget"]) for name, cases in committed.items()
             for case, found in cases.items() for one in [*found["cells"], *found["new_items"]]]  # fmt: skip
    found = {path.stem for path in RESULTS.glob("*.json")} - {"summary"}
    assert found == {cell.name for cell in cells} | {cell.rows for cell in cells}
    assert max(path.stat().st_size for path in RESULTS.glob("*-*.json")) <= 32_000
