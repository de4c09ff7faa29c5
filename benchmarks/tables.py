"""Print markdown tables of results files of ``tsporec evaluate`` and ``benchmarks.real``.

python -m benchmarks.tables [--case adapted] [--short] FILE ...

``--short`` is one table for all files: NDCG@10 of the selector against head and the best other baseline.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def table(results: dict[str, Any], case: str | None = None) -> str:
    """Return a table for each case, or for one. A row is a scorer at a budget; the best of each budget is bold."""
    settings, environment = results["settings"], results["environment"]
    parts = []
    for name in [case] if case else dict.fromkeys(cell["case"] for cell in results["cells"]):
        cells = [cell for cell in results["cells"] if cell["case"] == name]
        cells.sort(key=lambda cell: (cell["budget"] is None, cell["budget"] or 0))
        rivals = [rival for rival in ("head", "tfidf") if any(rival in cell["versus"] for cell in cells)]
        lines = [
            f"**{_category(results)}**, {' + '.join(settings['fields'])}, "
            f"{name}, {results['test_rows']:,} test rows, seeds {results['seeds']}, commit {environment['commit']}, "
            f"{environment['hardware']['threads']} thread(s) of {environment['hardware']['cpu']}:",
            "",
            "| scorer | budget | Recall@10 | NDCG@10 | MRR | "
            + "".join(f"NDCG@10 − {rival} (95%) | " for rival in rivals)
            + "tokens | score s | encode s |",
            "|" + " --- |" * (8 + len(rivals)),
        ]
        for cell in cells:
            peers = [c["metrics"] for c in cells if c["budget"] == cell["budget"]]
            values = [_value(cell["metrics"], peers, name) for name in ("recall@10", "ndcg@10", "mrr")]
            values += [interval(cell["versus"].get(rival, {}).get("ndcg@10")) for rival in rivals]
            times = f"{cell['score_seconds']:.1f} | {cell['encode_seconds']:.1f}"
            budget = cell["budget"] or "all"
            lines.append(f"| {cell['scorer']} | {budget} | {' | '.join(values)} | {cell['tokens']:,} | {times} |")
        parts.append("\n".join([*lines, *notes(results, name)]))
    return "\n\n".join(parts)


def notes(results: dict[str, Any], case: str) -> list[str]:
    """Say below a table which rows its metrics are of, what popularity reaches, and which differences can be seen."""
    if "popularity" not in results:
        return []  # a results file of all rows, from before new targets had the figure to themselves
    found = results["resolution"].get(case)
    shown = f"; {len(results['seeds'])} seeds show differences from {found['difference']:.4f}" if found else ""
    return [
        "",
        f"Metrics of {results['new_targets']:,} new targets ({results['repeat_targets']:.1%} of the rows are repeats). "
        f"Popularity: NDCG@10 {results['popularity']['ndcg@10']:.4f}{shown}.",
    ]


OURS = ("selector", "rule")


def short(files: list[dict[str, Any]]) -> str:
    """Return one table of NDCG@10 by text, case and budget, with deviations over seeds and intervals over users."""
    lines = [
        "| text | case | k | seeds | head | best baseline | selector | − head (95%) | − best (95%) | whole text |",
        "|" + " --- |" * 10,
    ]
    for results in files:
        text = f"{_category(results).split('_')[0]}, {' + '.join(results['settings']['fields'])}"
        cells = {(cell["scorer"], cell["budget"], cell["case"]): cell for cell in results["cells"]}
        for (name, budget, case), cell in cells.items():
            if name != "selector":
                continue
            rivals = [c for (n, b, of), c in cells.items() if (b, of) == (budget, case) and n not in OURS]
            best = max(rivals, key=lambda c: c["metrics"]["ndcg@10"])
            whole = cells.get(("full", None, case))
            values = [_deviating(cells["head", budget, case]), f"{best['scorer']} {_deviating(best)}", _deviating(cell)]
            values += [interval(cell["versus"].get(rival, {}).get("ndcg@10")) for rival in ("head", best["scorer"])]
            values.append(_deviating(whole) if whole else "")
            lines.append(f"| {text} | {case} | {budget} | {len(results['seeds'])} | {' | '.join(values)} |")
    return "\n".join(lines)


def _category(results: dict[str, Any]) -> str:
    settings: dict[str, str] = results["settings"]
    return settings.get("category") or settings["items"].split(".")[0]


def _deviating(cell: dict[str, Any]) -> str:
    deviation = cell["deviation"]["ndcg@10"]
    return f"{cell['metrics']['ndcg@10']:.4f}" + (f" ± {deviation:.4f}" if deviation else "")


def _value(metrics: dict[str, float], peers: list[dict[str, float]], name: str) -> str:
    text = f"{metrics[name]:.4f}"
    return f"**{text}**" if len(peers) > 1 and metrics[name] == max(peer[name] for peer in peers) else text


def interval(versus: Sequence[float] | None) -> str:
    """Format a mean difference with its bounds: "+0.0400 [+0.0330, +0.0472]"; "" for none."""
    return "{:+.4f} [{:+.4f}, {:+.4f}]".format(*versus) if versus else ""


def main() -> None:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--case", choices=["adapted", "frozen"])
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    files = [json.loads(path.read_text()) for path in options.files]
    if options.short:
        return print(short(files))
    return print("\n\n".join(table(results, options.case) for results in files))


if __name__ == "__main__":
    main()
