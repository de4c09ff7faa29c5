"""Markdown tables from results files of ``tsporec evaluate``: ``python -m benchmarks.tables FILE ...``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def table(results: dict[str, Any]) -> str:
    """One table a case: a row a scorer and budget, best of each budget in bold."""
    settings, environment = results["settings"], results["environment"]
    parts = []
    for case in dict.fromkeys(cell["case"] for cell in results["cells"]):
        cells = [cell for cell in results["cells"] if cell["case"] == case]
        cells.sort(key=lambda cell: (cell["budget"] is None, cell["budget"] or 0))
        lines = [
            f"**{settings['items'].split('.')[0]}**, {' + '.join(settings['fields'])}, {case}, "
            f"{results['test_rows']:,} test rows, seeds {results['seeds']}, commit {environment['commit']}, "
            f"{environment['hardware']['threads']} thread(s) of {environment['hardware']['cpu']}:",
            "",
            "| scorer | budget | Recall@10 | NDCG@10 | MRR | NDCG@10 − head (95%) | tokens | score s | encode s |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for cell in cells:
            peers = [c["metrics"] for c in cells if c["budget"] == cell["budget"]]
            values = [_value(cell["metrics"], peers, name) for name in ("recall@10", "ndcg@10", "mrr")]
            versus = cell["versus"].get("head", {}).get("ndcg@10")
            interval = f"{versus[0]:+.4f} [{versus[1]:+.4f}, {versus[2]:+.4f}]" if versus else ""
            times = f"{cell['score_seconds']:.1f} | {cell['encode_seconds']:.1f}"
            budget = cell["budget"] or "all"
            lines.append(
                f"| {cell['scorer']} | {budget} | {' | '.join(values)} | {interval} | {cell['tokens']:,} | {times} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _value(metrics: dict[str, float], peers: list[dict[str, float]], name: str) -> str:
    text = f"{metrics[name]:.4f}"
    return f"**{text}**" if len(peers) > 1 and metrics[name] == max(peer[name] for peer in peers) else text


def main() -> None:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    print("\n\n".join(table(json.loads(path.read_text())) for path in parser.parse_args().files))


if __name__ == "__main__":
    main()
