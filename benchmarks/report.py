"""Render the cells of ``benchmarks.quality`` as tables and figures, from the results files alone.

python -m benchmarks.report --results FOLDER --pages docs/benchmarks.md,README.md --figures docs/figures

Each page holds blocks ``<!-- begin NAME -->`` to ``<!-- end NAME -->``, whose text is replaced: ``quality`` has all
tables, ``quality summary`` a short one, and ``quality figures`` links to the figures. The summary is written to
``summary.json`` in the folder of the cells. ``--json`` prints it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.datasets import CATALOGUES
from benchmarks.generative import TOTAL
from benchmarks.options import comma_separated
from benchmarks.quality import BUDGETS, CASES, CHECKPOINT, NEW_ITEMS
from benchmarks.summary import BASELINES, BEST, METRICS_OF, OURS, Figures, level_with_whole, summarise
from tsporec._internal.files import write_whole
from tsporec.evaluation.evaluator import FULL
from tsporec.metrics import ndcg

MISSING = "missing"
TITLES = {"ndcg@10": "NDCG@10", "recall@10": "Recall@10", "recall@1": "Recall@1"}
SHORT_BUDGETS = (4, 8, 16)
"""Budgets of the short table."""
Summary = dict[str, dict[str, Figures]]


def quality_block(summary: Summary) -> str:
    """Render all tables, a section for each catalogue and case."""
    parts = []
    for catalogue in CATALOGUES:
        for case in CASES:
            figures = summary.get(catalogue, {}).get(case)
            parts.append(f"### {catalogue}, {case}")
            parts += [f"{MISSING}: no cell is measured."] if figures is None else list(_section(case, figures))
    return "\n\n".join(parts)


def _section(name: str, case: Figures) -> Iterator[str]:
    cells = {(cell["scorer"], cell["budget"]): cell for cell in case["cells"]}
    given, metrics = {scorer for scorer, _ in cells}, METRICS_OF[name]
    scorers = [one for one in CASES[name] if one != NEW_ITEMS and (one != CHECKPOINT or one in given)]
    new = round(case["rows"] * (1 - case["repeats"]))
    commits = sorted({commit for cell in case["cells"] for commit in cell["commits"]})
    hardware = case["environment"]["hardware"]
    shown = case["resolution"]
    noise = f" Differences under {shown['difference']:.4f} are not shown by these seeds." if shown else ""
    level = (f"Popularity: NDCG@10 {case['popularity']['ndcg@10']:.4f}." if name == "embedding"
             else f"Each row ranks 10 items: chance has NDCG@10 {ndcg(range(1, 11), 10).mean():.4f}.")  # fmt: skip
    yield (
        f"{case['items']:,} items of {case['tokens'] / case['items']:.0f} tokens, {new:,} rows with a new target "
        f"({case['repeats']:.1%} of all rows are repeats and stand apart). {level}{noise} Commit {', '.join(commits)}, "
        f"{hardware['threads']} thread(s) of {hardware['cpu']}."
    )
    budgets = [*BUDGETS, None]
    for metric in metrics:
        best = {
            budget: max((c["mean"][metric] for (_, b), c in cells.items() if b == budget), default=None)
            for budget in BUDGETS
        }

        def value(cell: Figures, metric: str = metric, best: dict[int, Any] = best) -> str:
            text = f"{cell['mean'][metric]:.4f}"
            text = f"**{text}**" if cell["budget"] and cell["mean"][metric] == best[cell["budget"]] else text
            deviation = cell["deviation"].get(metric)
            return f"{text} ± {deviation:.4f}" if deviation is not None else f"{text} (1 seed)"

        yield _grid(TITLES[metric], scorers, budgets, cells, value)
    rest = [name for name in scorers if name not in ("head", FULL)]
    yield _grid("NDCG@10 − head (95%)", rest, BUDGETS, cells, lambda cell: _interval(cell, "head", "ndcg@10"))
    titles = [f"{TITLES[metric]} − {rival} (95%)" for metric in metrics for rival in ("best", "whole text")]
    lines = [f"| scorer | tokens | best baseline | {' | '.join(titles)} |", "|" + " --- |" * 7]
    for ours in (scorer for scorer in OURS if scorer in scorers):
        for budget in BUDGETS:
            if (cell := cells.get((ours, budget))) is None:
                lines.append(f"| {ours} | {budget} | " + " | ".join([MISSING] * 5) + " |")
                continue
            known = sum((baseline, budget) in cells for baseline in BASELINES)
            rival = cell["versus"].get(BEST)
            named = MISSING if rival is None else f"{rival['scorer']} (of {known})"
            values = [_interval(cell, rival, m) for m in metrics for rival in (BEST, FULL)]
            lines.append(f"| {ours} | {budget} | {named} | {' | '.join(values)} |")
    yield "\n".join(lines)
    if name == "embedding":
        yield _new_items(case)
        yield _grid("Select + encode, ms an item", scorers, budgets, cells, lambda cell: _milliseconds(cell, case))
    if (shared := f"selector{TOTAL}") in scorers:
        yield _grid("NDCG@10 − selector (95%)", [shared], BUDGETS, cells, lambda c: _interval(c, "selector", "ndcg@10"))


def _new_items(case: Figures) -> str:
    """Render a table of the rows whose targets the selector has not learned from."""
    columns = [f"NDCG@10 of new items ({case['rows_of_new_items']} rows)", "head", "best baseline", "rule",
               "selector that knows them", "selector", "− head (95%)", "− best (95%)"]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    found = {one["budget"]: one for one in case["new_items"]}
    for budget in BUDGETS:
        if (one := found.get(budget)) is None:
            lines.append(f"| {budget} | " + " | ".join([MISSING] * (len(columns) - 1)) + " |")
            continue
        mean = {name: f"{value:.4f}" for name, value in one["mean"].items()}
        best = one["versus"].get(BEST)
        values = [mean.get("head", MISSING), MISSING if best is None else f"{best['scorer']} {mean[best['scorer']]}",
                  *(mean.get(name, MISSING) for name in ("rule", "selector", NEW_ITEMS)),
                  *(_interval(one, rival, "ndcg@10") for rival in ("head", BEST))]  # fmt: skip
        lines.append(f"| {budget} | {' | '.join(values)} |")
    return "\n".join(lines)


def _grid(
    title: str,
    scorers: Sequence[str],
    budgets: Sequence[int | None],
    cells: dict[tuple[str, int | None], Figures],
    value: Callable[[Figures], str],
) -> str:
    """Render a table with a row for each scorer and a column for each budget."""
    lines = [f"| {title} | {' | '.join(str(b or 'all') for b in budgets)} |", "|" + " --- |" * (len(budgets) + 1)]
    for name in scorers:
        row = []
        for budget in budgets:
            cell = cells.get((name, budget))
            row.append(("" if (name == FULL) != (budget is None) else MISSING) if cell is None else value(cell))
        lines.append(f"| {name} | {' | '.join(row)} |")
    return "\n".join(lines)


def short_block(summary: Summary) -> str:
    """Render one table of the embedding case: NDCG@10 of the selector beside that of others."""
    lines = [
        "| catalogue | tokens | head | best baseline | selector | − head (95%) | − best baseline (95%) | whole text |",
        "|" + " --- |" * 8,
    ]
    for catalogue in CATALOGUES:
        case = summary.get(catalogue, {}).get("embedding", {"cells": []})
        cells = {(cell["scorer"], cell["budget"]): cell for cell in case["cells"]}
        for budget in SHORT_BUDGETS:
            ours = cells.get(("selector", budget))
            rival = None if ours is None else ours["versus"].get(BEST)
            best = MISSING if rival is None else f"{rival['scorer']} {_mean(cells.get((rival['scorer'], budget)))}"
            values = [_mean(cells.get(("head", budget))), best, _mean(ours)]
            values += [MISSING if ours is None else _interval(ours, name, "ndcg@10") for name in ("head", BEST)]
            lines.append(f"| {catalogue} | {budget} | {' | '.join(values)} | {_mean(cells.get((FULL, None)))} |")
    return "\n".join(lines)


def _mean(cell: Figures | None) -> str:
    return MISSING if cell is None else f"{cell['mean']['ndcg@10']:.4f}"


def _interval(cell: Figures, rival: str, metric: str) -> str:
    """Format a mean difference with its bounds: "+0.0400 [+0.0330, +0.0472]"."""
    found = cell["versus"].get(rival)
    return MISSING if found is None else "{:+.4f} [{:+.4f}, {:+.4f}]".format(*found[metric])


def _milliseconds(cell: Figures, case: Figures) -> str:
    """Format the time that it takes to score and to encode an item: "0.02 + 2.31"."""
    return " + ".join(f"{1000 * cell['seconds'][part] / case['items']:.2f}" for part in ("score", "encode"))


def fill(page: str, blocks: dict[str, str]) -> str:
    r"""Replace the text of the blocks that a page holds.

    >>> fill("<!-- begin quality -->\nold\n<!-- end quality -->", {"quality": "new"})
    '<!-- begin quality -->\n\nnew\n\n<!-- end quality -->'

    Raises
    ------
    ValueError
        If the page holds none of the blocks.
    """
    found = 0
    for name, text in blocks.items():
        pattern = re.compile(rf"(<!-- begin {name} -->).*?(<!-- end {name} -->)", re.DOTALL)
        page, times = pattern.subn(lambda marks, text=text: f"{marks[1]}\n\n{text}\n\n{marks[2]}", page)  # type: ignore[misc]
        found += times
    if not found:
        raise ValueError(
            f"the page holds no block; write <!-- begin NAME --> and <!-- end NAME -->, {' or '.join(blocks)}."
        )
    return page


def draw(summary: Summary, folder: Path) -> list[Path]:
    """Draw NDCG@10 against tokens, against seconds, and its gain over head by budget; a panel a catalogue and case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # The same numbers give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "tsporec", "svg.fonttype": "none"})
    folder.mkdir(parents=True, exist_ok=True)
    panels = [(f"{name}, {case}", found) for name, cases in summary.items() for case, found in cases.items()]
    if not panels:
        raise ValueError("no cell is measured, so there is nothing to draw; run benchmarks.quality first.")
    rows, made = (len(panels) + 1) // 2, []
    for name, (horizontal, vertical, point) in _PLOTS.items():
        figure, axes = pyplot.subplots(rows, 2, figsize=(10, 3.6 * rows), squeeze=False, layout="constrained")
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, (title, case) in zip(axes.flat, panels, strict=False):
            for scorer, style in _STYLES.items():
                points = [point(cell, case) for cell in case["cells"] if cell["scorer"] == scorer]
                if line := sorted(one for one in points if one is not None):
                    axis.plot(*zip(*line, strict=True), marker="o", markersize=3, label=scorer, **style)
                    if scorer == FULL:
                        axis.axhline(line[0][1], linestyle=":", linewidth=1, **style)
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter("{x:g}")
            axis.set(title=title, xlabel=horizontal, ylabel=vertical)
        axes[0][0].legend(fontsize="small")
        made.append(folder / f"{name}.svg")
        figure.savefig(made[-1], metadata={"Date": None})
        pyplot.close(figure)
    return made


Point = tuple[float, float] | None


def _by_tokens(cell: Figures, case: Figures) -> Point:
    return cell["tokens"], cell["mean"]["ndcg@10"]


def _by_seconds(cell: Figures, case: Figures) -> Point:
    if "encode" not in cell["seconds"]:
        return None
    seconds = cell["seconds"]["score"] + cell["seconds"]["encode"]
    return 1000 * seconds / case["items"], cell["mean"]["ndcg@10"]


def _gain(cell: Figures, case: Figures) -> Point:
    return (
        (cell["budget"], cell["versus"]["head"]["ndcg@10"][0]) if cell["budget"] and "head" in cell["versus"] else None
    )


_PLOTS = {
    "quality": ("tokens of an item, or of a prompt", "NDCG@10", _by_tokens),
    "time": ("milliseconds an item to select and encode", "NDCG@10", _by_seconds),
    "gain": ("budget in tokens", "NDCG@10 − head's", _gain),
}
_COLOURED = [scorer for scorer in dict.fromkeys(name for names in CASES.values() for name in names)
             if scorer not in ("selector", FULL)]  # fmt: skip
_STYLES: dict[str, dict[str, Any]] = {
    **{scorer: {"color": f"C{i if i < 7 else i + 1}"} for i, scorer in enumerate(_COLOURED)},
    "selector": {"color": "black"},
    FULL: {"color": "C7"},
}
"""Lines of the figures; C7 is gray."""


def main() -> None:
    """Summarise the cells, fill the pages, draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/quality"))
    parser.add_argument("--pages", type=comma_separated, default=[], help="pages whose blocks are filled")
    parser.add_argument("--figures", type=Path, help="folder for SVG files")
    parser.add_argument("--json", action="store_true", help="print the summary")
    options = parser.parse_args()
    summary = summarise(options.results, CATALOGUES, CASES, BUDGETS)
    for cases in summary.values():
        for case in cases.values():
            case["level_with_whole_text"] = {name: level_with_whole(case, name) for name in OURS}
    write_whole(options.results / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(summary, indent=1))
    blocks = {"quality": quality_block(summary), "quality summary": short_block(summary)}
    figures = draw(summary, options.figures) if options.figures else []
    for name in options.pages:
        page = Path(name)
        links = [f"![{file.stem}]({Path(os.path.relpath(file, page.parent)).as_posix()})" for file in figures]
        shown = {"quality figures": "\n\n".join(links)} if links else {}
        write_whole(page, fill(page.read_text(), blocks | shown).encode())


if __name__ == "__main__":
    main()
