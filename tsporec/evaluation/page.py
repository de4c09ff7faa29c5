"""Show kept tokens on a page with a budget slider: one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from tsporec.evaluation.report import runs_of, spelled
from tsporec.scorers import Scorer
from tsporec.selection import pieces_of_words, score_tokens, select_words
from tsporec.tokens.ragged import RaggedTokens
from tsporec.tokens.words import words_of

_BUDGETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def make_page(
    names: Sequence[str],
    tokens: RaggedTokens,
    scorers: Mapping[str, Scorer],
    tokenizer: Any,
    budget: int | Sequence[int],
    granularity: str = "word",
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
    budget : int, or several
        Numbers of tokens that the slider has besides its own. It stands at the first.
    granularity : "word" or "token"
        Default "word", since people read the page.

    Examples
    --------
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.scorers import make_scorer
    >>> tokenizer = word_tokenizer(["gel", "pen"])
    >>> page = make_page(["7"], RaggedTokens.from_lists([[4, 5]]), {"head": make_scorer("head")}, tokenizer, 1)
    >>> '"text":"gel pen","tokens":2,"kept":{"head":[[[0,3]],[[0,3],[4,7]]]}' in page
    True
    """
    longest, asked = int(tokens.lengths.max(initial=1)), [budget] if isinstance(budget, int) else list(budget)
    budgets = sorted({*asked, *(size for size in _BUDGETS if size < longest), longest})
    pieces = pieces_of_words(granularity, tokenizer)
    # Words and characters are read once, since a selection is made for each scorer and budget.
    words = np.arange(tokens.num_tokens) if pieces is None else words_of(tokens, pieces)
    clusters = None if pieces is None else cache(partial(words_of, tokens, pieces, clusters=True))
    texts = [spelled(ids, tokenizer) for ids in tokens]
    items: list[dict[str, Any]] = [
        {"id": name, "text": text, "tokens": len(spans), "kept": {scorer: [] for scorer in scorers}}
        for name, (text, spans) in zip(names, texts, strict=True)
    ]
    for name, scorer in scorers.items():
        scores = score_tokens(scorer, tokens)
        for size in budgets:
            k = np.full(len(tokens), size, dtype=np.int32)
            selection = select_words(scores, words, tokens.cu_seqlens, k, clusters=clusters)
            places = np.split(selection.kept, selection.cu_seqlens[1:-1])
            for item, (text, spans), kept, start in zip(items, texts, places, tokens.cu_seqlens, strict=False):
                item["kept"][name].append(runs_of(text, spans[kept - start]))
    data = json.dumps(
        {"budgets": budgets, "budget": asked[0], "scorers": list(scorers), "items": items}, separators=(",", ":")
    )
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    for part in ("style", "script"):
        (code,) = re.findall(rf"<{part}>(.*?)</{part}>", page, re.DOTALL)
        found = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        page = page.replace("{{" + part + "}}", f"sha256-{found}")
    return page.replace("{{data}}", data.replace("<", "\\u003c"))
