"""Show results: kept tokens in a text, tables, and plots of quality against tokens kept."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.extras import require
from tsporec._internal.files import writing
from tsporec._internal.terminal import printable
from tsporec.evaluation.evaluator import FULL
from tsporec.evaluation.measures import POPULARITY, Cell, Evaluation, counted, size_label
from tsporec.evaluation.verdict import best_rule, beyond_noise
from tsporec.selection import Selection
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens


def make_console() -> Any:
    """Return a rich ``Console``, 80 columns wide without a terminal. Texts are printed as they are, without markup."""
    width = None if sys.stdout.isatty() else 80
    return require("rich.console", extra="cli").Console(markup=False, emoji=False, highlight=False, width=width)


def kept_runs(tokens: RaggedTokens, selection: Selection, tokenizer: Any, segment: int) -> tuple[str, list[list[int]]]:
    """Return the text of one segment, and start and end of each run of kept characters in it, without outer spaces.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer = word_tokenizer("blue gel pen".split())
    >>> tokens = RaggedTokens.from_lists(tokenizer(["blue gel pen"], add_special_tokens=False)["input_ids"])
    >>> kept_runs(tokens, Selection(np.array([1, 2]), np.int32([0, 2])), tokenizer, 0)
    ('blue gel pen', [[5, 8], [9, 12]])
    """
    start, end = selection.cu_seqlens[segment : segment + 2]
    text, spans = spelled(tokens[segment], tokenizer)
    return text, runs_of(text, spans[selection.kept[start:end] - tokens.cu_seqlens[segment]])


def spelled(ids: NDArray[np.int32], tokenizer: Any) -> tuple[str, NDArray[np.int64]]:
    """Return the text of token ids, without outer spaces, and where each token starts and ends in it: ``[L, 2]``."""
    text, spans = read_pieces(tokenizer).text(ids)
    return text.strip(), spans - _blank(text)


def runs_of(text: str, spans: NDArray[np.int64]) -> list[list[int]]:
    """Return start and end of each run of characters of the tokens at ``spans``, without outer spaces."""
    runs: list[list[int]] = []
    for first, last in np.clip(spans, 0, len(text)).tolist():
        first, last = first + _blank(text[first:last]), last - _blank(text[first:last][::-1])
        if runs and runs[-1][1] >= first:
            runs[-1][1] = max(last, runs[-1][1])
        elif last > first:
            runs.append([first, last])
    return runs


def highlighted(text: str, runs: Sequence[Sequence[int]]) -> Any:
    """Return a text as a rich ``Text``. Its kept ``runs`` are bold on colour and the rest is dim.

    Without a terminal colours are lost, so kept runs stand in ``[brackets]``.

    >>> highlighted("blue gel pen", [[5, 8]]).plain
    'blue [gel] pen'
    """
    if not sys.stdout.isatty():
        bounds = enumerate(pairwise([0, *chain.from_iterable(runs), len(text)]))  # every second part is kept
        return plain_text("".join(f"[{text[a:b]}]" if place % 2 else text[a:b] for place, (a, b) in bounds))
    picture = plain_text(text, "dim")
    for first, last in runs:
        picture.stylize("not dim bold black on bright_green", first, last)
    return picture


def plain_text(text: str, style: str = "") -> Any:
    r"""Return ``text`` as a rich ``Text`` without control characters.

    >>> plain_text("[red]12\x1b[2J").plain
    '[red]12 [2J'
    """
    return require("rich.text", extra="cli").Text(printable(text), style=style)


def _blank(text: str) -> int:
    """Count the characters of white space at the start.

    >>> _blank("  pen")
    2
    """
    return len(text) - len(text.lstrip())


def results_table(evaluation: Evaluation, case: str, extra: dict[str, list[str]] | None = None) -> Any:
    """Return a rich ``Table`` of one case. A row is a scorer at a budget; the best of each budget is bold.

    Each row has the differences of its NDCG@10 to the first tokens, to the best other rule at its budget and to the
    whole text, with half of their 95% intervals. A star marks differences beyond noise. Metrics are of new targets. The
    caption gives popularity and the smallest difference that the seeds show. ``extra`` maps headings of further columns
    to their values, one a row; they take the place of the difference to the first tokens.

    >>> results_table(Evaluation([], 80, 0.0, [0], {"ndcg@10": 0.01}, {}), "adapted").title
    'adapted, 80 test rows, 1 seed'
    """
    cells = _sorted_cells(evaluation, case)
    rivals = ["− best rule", "− whole"] if extra else ["− head", "− best rule", "− whole"]
    head = ["text", "tokens", "NDCG@10", *rivals, *(extra or {})]
    table = _table(head, f"{case}, {counted(evaluation.rows, 'test row')}, {counted(len(evaluation.seeds), 'seed')}")
    table.caption = table_notes(evaluation, case)
    whole = next((cell.tokens for cell in cells if cell.budget is None), 0)
    for i, cell in enumerate(cells):
        share = f" ({cell.tokens / whole:.0%})" if whole and isinstance(cell.budget, int) else ""
        best = cell.budget and cell.metrics["ndcg@10"] == max(
            other.metrics["ndcg@10"] for other in cells if other.budget == cell.budget
        )
        value = f"{cell.metrics['ndcg@10']:.4f}"
        rule = best_rule(cells, cell) if cell.budget else None
        differences = [_difference(evaluation, cell, rival) for rival in ("head", rule, FULL)][-len(rivals) :]
        shown = plain_text(value, "bold") if best else value
        row = [cell.scorer, f"{size_label(cell.budget)}{share}", shown, *differences]
        table.add_row(*row, *(column[i] for column in (extra or {}).values()))
    return table


def details_table(evaluation: Evaluation, case: str) -> Any:
    """Return a rich ``Table`` of the other figures; the metrics are of new targets, but for the repeats' NDCG@10."""
    table = _table(["text", "budget", "Recall@10", "repeats", "tokens", "distinct", "score s", "encode s"], case)
    for cell in _sorted_cells(evaluation, case):
        repeats = "" if cell.repeats is None else f"{cell.repeats:.4f}"
        times = [f"{cell.score_seconds:.1f}", f"{cell.encode_seconds:.1f}"]
        size = [f"{cell.tokens:,}", f"{cell.distinct:.0%}"]
        table.add_row(cell.scorer, size_label(cell.budget), f"{cell.metrics['recall@10']:.4f}", repeats, *size, *times)
    return table


def _sorted_cells(evaluation: Evaluation, case: str) -> list[Cell]:
    cells = [cell for cell in evaluation.cells if cell.case == case]
    return sorted(cells, key=lambda cell: (cell.budget is None, cell.budget or 0))


def _table(head: list[str], title: str) -> Any:
    box = require("rich.box", extra="cli").SIMPLE_HEAD
    table = require("rich.table", extra="cli").Table(title=title, box=box, padding=0)
    for column in head:
        table.add_column(column, justify="left" if column == "text" else "right", no_wrap=column == "text")
    return table


def table_notes(evaluation: Evaluation, case: str) -> str:
    """Say on which rows the metrics are, what popularity reaches, and which differences the seeds can show."""
    new, repeats = round(evaluation.rows * (1 - evaluation.repeats)), evaluation.repeats
    apart = f" The others ({repeats:.1%}) repeat an item of the history, and stand apart." if repeats else ""
    notes = [
        f"Metrics are of the {counted(new, 'row')} with a new target.{apart}",
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


def _difference(evaluation: Evaluation, cell: Cell, rival: str | None) -> str:
    if rival not in cell.versus:
        return ""
    mean, low, high = cell.versus[rival]["ndcg@10"]
    star = "*" if beyond_noise(evaluation, cell, rival) else ""
    return f"{mean:+.4f}±{(high - low) / 2:.4f}{star}".replace("0.", ".")


def print_texts(
    console: Any,
    names: Sequence[str],
    tokens: RaggedTokens,
    selection: Selection,
    tokenizer: Any,
    segments: Iterable[int],
) -> None:
    """Print each segment's name, its text with the kept tokens highlighted, and the kept tokens alone."""
    for i in segments:
        shown = kept_runs(tokens, selection, tokenizer, i)
        console.print(plain_text(names[i], "bold"), highlighted(*shown), sep="\n")
        console.print("→", plain_text(short_text(*shown)), end="\n\n")


def compare_texts(
    console: Any, name: str, tokens: RaggedTokens, selections: Mapping[str, Selection], tokenizer: Any, segment: int
) -> None:
    """Print a segment's name and text, and under them what each scorer keeps; the last one's is highlighted above."""
    shown = {scorer: kept_runs(tokens, selection, tokenizer, segment) for scorer, selection in selections.items()}
    rows = require("rich.table", extra="cli").Table.grid(padding=(0, 2))
    rows.add_row("whole", highlighted(*list(shown.values())[-1]))
    for scorer, found in shown.items():
        rows.add_row(scorer, plain_text(short_text(*found)))
    console.print(plain_text(name, "bold"), rows, "", sep="\n")


def short_text(text: str, runs: Iterable[Sequence[int]]) -> str:
    r"""Join the kept runs of a text, with a space before each that begins a word.

    >>> short_text("gel\nblue pen", [[0, 3], [9, 12]])
    'gel pen'
    """
    return "".join(" " * text[first - 1 : first].isspace() + text[first:last] for first, last in runs).strip()


def check_plot(path: Path) -> None:
    """Refuse a file that :func:`plot_quality` cannot draw to, before the work that it would show."""
    require("matplotlib", extra="viz")
    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"a plot is a .png or .svg file; found {path}.")


def plot_quality(evaluation: Evaluation, path: str | Path, metric: str = "ndcg@10") -> Path:
    """Plot ``metric`` against the budget to a PNG or SVG file: a line a scorer, a panel a case.

    A dashed line is the whole text. The band of a scorer is the 95% interval over users of its difference to the whole
    text or, if that was not run, to popularity: a band that holds the dashed line is level with the whole text.
    """
    require("matplotlib", extra="viz").use("Agg")
    pyplot = require("matplotlib.pyplot", extra="viz")
    cases = list(dict.fromkeys(cell.case for cell in evaluation.cells))
    figure, axes = pyplot.subplots(1, len(cases), figsize=(6 * len(cases), 4), squeeze=False, layout="constrained")
    for axis, case in zip(axes[0], cases, strict=True):
        cells = [cell for cell in evaluation.cells if cell.case == case]
        short = sorted((cell for cell in cells if cell.budget), key=lambda cell: cell.budget or 0)
        for cell in cells:
            if not cell.budget:
                axis.axhline(cell.metrics[metric], color="0.4", linestyle="--", label=f"{cell.scorer} (whole text)")
        for name in dict.fromkeys(cell.scorer for cell in short):
            mine = [cell for cell in short if cell.scorer == name]
            budgets, values = [cell.budget for cell in mine], np.array([cell.metrics[metric] for cell in mine])
            differences = [cell.versus.get(FULL, cell.versus[POPULARITY])[metric] for cell in mine]
            low, high = np.array([(low - mean, high - mean) for mean, low, high in differences]).T
            (line,) = axis.plot(budgets, values, marker="o", label=name)
            axis.fill_between(budgets, values + low, values + high, color=line.get_color(), alpha=0.15, linewidth=0)
        axis.set(title=case, xlabel="kept of each text", ylabel=metric.replace("ndcg", "NDCG"), xscale="log")
        ticks = sorted({cell.budget or 0 for cell in short})
        axis.set_xticks(ticks, labels=[size_label(size) for size in ticks])
        axis.minorticks_off()
        axis.legend()
    path = Path(path)
    with writing(path) as part:
        figure.savefig(part, format=path.suffix[1:])
    pyplot.close(figure)
    return path
