"""Show results: kept tokens in a text, tables, and plots of quality against tokens kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tsporec._internal.extras import require
from tsporec.evaluation.measures import Cell, Evaluation
from tsporec.selection import Selection
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens


def make_console() -> Any:
    """Return a rich ``Console``. It is 140 columns wide without a terminal, because 80 would cut the tables."""
    width = None if sys.stdout.isatty() else 140
    return require("rich.console", extra="cli").Console(highlight=False, width=width)


def highlighted(tokens: RaggedTokens, selection: Selection, tokenizer: Any, segment: int) -> Any:
    """Return the text of one segment as a rich ``Text``. Kept tokens are bold on colour and the others dim.

    Without a terminal colours are lost, so kept tokens stand in ``[brackets]``.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer = word_tokenizer("blue gel pen".split())
    >>> tokens = RaggedTokens.from_lists(tokenizer(["blue gel pen"], add_special_tokens=False)["input_ids"])
    >>> highlighted(tokens, Selection(np.array([1]), np.int32([0, 1])), tokenizer, 0).plain.strip()
    'blue [gel] pen'
    """
    start, end = tokens.cu_seqlens[segment], tokens.cu_seqlens[segment + 1]
    kept = np.zeros(end - start, dtype=bool)
    chosen = selection.kept[selection.cu_seqlens[segment] : selection.cu_seqlens[segment + 1]]
    kept[chosen - start] = True
    text, spans = read_pieces(tokenizer).text(tokens[segment])
    runs: list[list[int]] = []
    for first, last in spans[kept].tolist():
        first, last = first + _blank(text[first:last]), last - _blank(text[first:last][::-1])
        if runs and runs[-1][1] >= first:
            runs[-1][1] = max(last, runs[-1][1])
        elif last > first:
            runs.append([first, last])
    if not sys.stdout.isatty():
        for first, last in reversed(runs):
            text = f"{text[:first]}[{text[first:last]}]{text[last:]}"
        return plain_text(text)
    picture = plain_text(text, "dim")
    for first, last in runs:
        picture.stylize("not dim bold black on bright_green", first, last)
    return picture


def plain_text(text: str, style: str = "") -> Any:
    r"""Return ``text`` as a rich ``Text``: square brackets are no markup, control characters are shown as spaces.

    >>> plain_text("[red]12\x1b[2J").plain
    '[red]12 [2J'
    """
    shown = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return require("rich.text", extra="cli").Text(shown, style=style)


def _blank(text: str) -> int:
    """Count the characters of white space at the start.

    >>> _blank("  pen")
    2
    """
    return len(text) - len(text.lstrip())


def results_table(evaluation: Evaluation, case: str, extra: dict[str, list[str]] | None = None) -> Any:
    """Return a rich ``Table`` of one case. A row is a scorer at a budget; the best of each budget is bold.

    Metrics are of new targets; the NDCG@10 of repeats has a column of its own. The caption gives popularity and the
    smallest difference that the seeds show. ``extra`` maps headings of further columns to their values, one a row.

    >>> results_table(Evaluation([], 80, 0.0, [0], {"ndcg@10": 0.01}, {}), "adapted").title
    'adapted, 80 test rows, 1 seed(s)'
    """
    table_module = require("rich.table", extra="cli")
    cells = [cell for cell in evaluation.cells if cell.case == case]
    cells.sort(key=lambda cell: (cell.budget is None, cell.budget or 0))
    title = f"{case}, {evaluation.rows} test rows, {len(evaluation.seeds)} seed(s)"
    table = table_module.Table(title=title, caption=table_notes(evaluation, case))
    table.add_column("scorer")
    head = ["budget", "Recall@10", "NDCG@10", "MRR", "repeats", "NDCG@10 - head (95%)", "tokens", "score s", "encode s"]
    for column in [*head, *(extra or {})]:
        table.add_column(column, justify="right")
    best = {
        (metric, cell.budget): max(c.metrics[metric] for c in cells if c.budget == cell.budget)
        for cell in cells
        for metric in cell.metrics
    }
    for i, cell in enumerate(cells):
        values = [
            f"[bold]{value:.4f}[/bold]" if cell.budget and value == best[metric, cell.budget] else f"{value:.4f}"
            for metric, value in cell.metrics.items()
        ]
        values.append("" if cell.repeats is None else f"{cell.repeats:.4f}")
        times = [f"{cell.score_seconds:.1f}", f"{cell.encode_seconds:.1f}"]
        row = [cell.scorer, str(cell.budget or "all"), *values, _interval(cell), f"{cell.tokens:,}", *times]
        table.add_row(*row, *(column[i] for column in (extra or {}).values()))
    return table


def table_notes(evaluation: Evaluation, case: str) -> str:
    """Say on which rows the metrics are, what popularity reaches, and which differences the seeds can show."""
    new = round(evaluation.rows * (1 - evaluation.repeats))
    notes = [
        f"Metrics: {new} rows with a new target; repeats ({evaluation.repeats:.1%}) apart, by NDCG@10.",
        f"Popularity: NDCG@10 {evaluation.popularity['ndcg@10']:.4f}.",
    ]
    found = evaluation.resolution.get(case)
    if found is None:
        notes.append("One seed says nothing about the noise of a fit; give at least three.")
    else:
        notes.append(
            f"Fits of one selection deviate by {found.deviation:.4f}; differences under {found.difference:.4f} are not "
            "shown by these seeds."
        )
    return "\n".join(notes)


def _interval(cell: Cell) -> str:
    if "head" not in cell.versus:
        return ""
    mean, low, high = cell.versus["head"]["ndcg@10"]
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]".replace("[", r"\[")


def plot_quality(evaluation: Evaluation, path: str | Path, metric: str = "ndcg@10") -> Path:
    """Plot ``metric`` against the tokens kept to a PNG or SVG file, with a line a scorer and a panel a case."""
    require("matplotlib", extra="viz").use("Agg")
    pyplot = require("matplotlib.pyplot", extra="viz")
    cases = list(dict.fromkeys(cell.case for cell in evaluation.cells))
    figure, axes = pyplot.subplots(1, len(cases), figsize=(6 * len(cases), 4), squeeze=False, layout="constrained")
    for axis, case in zip(axes[0], cases, strict=True):
        cells = [cell for cell in evaluation.cells if cell.case == case]
        for name in dict.fromkeys(cell.scorer for cell in cells):
            line = sorted((cell.tokens, cell.metrics[metric]) for cell in cells if cell.scorer == name)
            axis.plot(*zip(*line, strict=True), marker="o", label=name)
        axis.set(title=case, xlabel="tokens kept of the catalogue", ylabel=metric, xscale="log")
        axis.legend()
    path = Path(path)
    figure.savefig(path)
    pyplot.close(figure)
    return path
