"""Show kept tokens on a page with a budget slider: one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tsporec.evaluation.report import kept_runs
from tsporec.scorers import Scorer
from tsporec.selection import pieces_of_words, score_tokens, select_scored
from tsporec.tokens.ragged import RaggedTokens

_BUDGETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def make_page(
    names: Sequence[str],
    tokens: RaggedTokens,
    scorers: Mapping[str, Scorer],
    tokenizer: Any,
    budget: int,
    granularity: str = "token",
) -> str:
    """Make a page that shows what each scorer keeps of each text, at budgets up to the longest text's length.

    The page is one file and loads nothing. Its policy allows its own script and style by their digests and nothing
    else. The texts stand in it as JSON and are set as text, so markup in them does nothing.

    Parameters
    ----------
    names : sequence of str
        Name of each of N segments.
    tokens : RaggedTokens
    scorers : dict of str to Scorer
        For ids of ``tokens``.
    tokenizer : Hugging Face tokenizer
    budget : int
        Where the slider stands at first, in tokens.
    granularity : "token" or "word"

    Examples
    --------
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.scorers import make_scorer
    >>> tokenizer = word_tokenizer(["gel", "pen"])
    >>> page = make_page(["7"], RaggedTokens.from_lists([[4, 5]]), {"head": make_scorer("head")}, tokenizer, 1)
    >>> '"text":"gel pen","tokens":2,"kept":{"head":[[[0,3]],[[0,3],[4,7]]]}' in page
    True
    """
    longest = int(tokens.lengths.max(initial=1))
    budgets = sorted({budget, *(size for size in _BUDGETS if size < longest), longest})
    whole_words = pieces_of_words(granularity, tokenizer)
    items: list[dict[str, Any]] = [
        {"id": name, "text": "", "tokens": len(ids), "kept": {scorer: [] for scorer in scorers}}
        for name, ids in zip(names, tokens, strict=True)
    ]
    for name, scorer in scorers.items():
        scores = score_tokens(scorer, tokens)
        for size in budgets:
            selection = select_scored(scores, tokens, size, whole_words=whole_words)
            for i, item in enumerate(items):
                item["text"], runs = kept_runs(tokens, selection, tokenizer, i)
                item["kept"][name].append(runs)
    data = json.dumps(
        {"budgets": budgets, "budget": budget, "scorers": list(scorers), "items": items}, separators=(",", ":")
    )
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    for part in ("style", "script"):
        (code,) = re.findall(rf"<{part}>(.*?)</{part}>", page, re.DOTALL)
        found = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        page = page.replace("{{" + part + "}}", f"sha256-{found}")
    return page.replace("{{data}}", data.replace("<", "\\u003c"))
