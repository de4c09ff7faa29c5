"""From items to kept tokens with ranks: the work of a build, done in this process, in workers, or by Ray."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import short_digests
from tsporec.budget import Budget
from tsporec.catalog.store.keys import Keys
from tsporec.catalog.store.layout import Recipe
from tsporec.catalog.store.shard import Kept
from tsporec.selection import Selection, rank
from tsporec.tokens.ragged import RaggedTokens
from tsporec.topk.cpu import select


@dataclass(frozen=True, eq=False)
class Chunk:
    """N items on their way: ids, and their texts or their tokens.

    Parameters
    ----------
    ids : list of int or str, or an array
    texts : list of str, optional
    tokens : RaggedTokens, optional
        Instead of ``texts`` where they are tokenised already (without special tokens).
    """

    ids: Any
    texts: list[str] | None = None
    tokens: RaggedTokens | None = None

    def __post_init__(self) -> None:
        given = [len(part) for part in (self.texts, self.tokens) if part is not None]
        if given != [len(self.ids)]:
            raise ValueError(f"a Chunk of {len(self.ids)} ids needs as many texts or token segments; found {given}.")

    def __len__(self) -> int:
        return len(self.ids)

    def digests(self) -> NDArray[np.uint64]:
        """uint64 ``[N]``: BLAKE2b of each text, or of its int32 token ids."""
        if self.texts is not None:
            data = [text.encode("utf-8", "surrogatepass") for text in self.texts]
        else:
            assert self.tokens is not None
            data = [row.astype("<i4", copy=False).tobytes() for row in self.tokens]
        return short_digests(data)

    def take(self, rows: NDArray[np.int64]) -> Chunk:
        """The items at positions ``rows``."""
        ids = [self.ids[row] for row in rows.tolist()]
        texts = None if self.texts is None else [self.texts[row] for row in rows.tolist()]
        return Chunk(ids, texts, None if self.tokens is None else self.tokens.take(rows))


@dataclass(frozen=True, eq=False)
class Compressed:
    """A chunk's kept tokens, and the seconds it took to tokenise and to score and select."""

    kept: Kept
    tokenise_seconds: float
    select_seconds: float


@dataclass(frozen=True)
class Compressor:
    """Turns chunks into kept tokens; it pickles, so that worker processes have one each."""

    tokenizer: Any
    selector: Any
    budget: Budget
    vocabulary: int
    id_type: str
    max_tokens: int | None = None

    @classmethod
    def of(cls, tokenizer: Any, selector: Any, recipe: Recipe) -> Compressor:
        """The compressor of a recipe, whose fingerprints are those of ``tokenizer`` and ``selector``."""
        return cls(tokenizer, selector, recipe.to_budget(), recipe.vocabulary, recipe.id_type, recipe.max_tokens)

    def __call__(self, chunk: Chunk) -> Compressed:
        """Tokenise where needed, score, select and rank.

        Raises
        ------
        ValueError
            If an id is not of ``id_type``, or a token id is outside the vocabulary.
        """
        keys = Keys.from_ids(chunk.ids, self.id_type)
        began = time.perf_counter()
        tokens = self._tokens(chunk)
        tokenised = time.perf_counter()
        scores = np.asarray(self.selector.score(tokens))
        if scores.shape != (tokens.num_tokens,):
            raise ValueError(
                f"{type(self.selector).__name__}.score returned shape {scores.shape} for {tokens.num_tokens} tokens; "
                "expected one score a token."
            )
        k = self.budget.resolve(scores, tokens.cu_seqlens)
        selection = Selection(*select(scores, tokens.cu_seqlens, k))
        small = np.uint16 if self.vocabulary <= 1 << 16 else np.uint32
        kept = Kept(
            keys,
            np.diff(selection.cu_seqlens).astype(np.int64),
            tokens.ids[selection.kept].astype(small),
            rank(scores, selection),
            chunk.digests(),
            tokens.num_tokens,
        )
        return Compressed(kept, tokenised - began, time.perf_counter() - tokenised)

    def _tokens(self, chunk: Chunk) -> RaggedTokens:
        if chunk.tokens is not None:
            tokens = chunk.tokens
            if self.max_tokens is not None and (tokens.lengths > self.max_tokens).any():
                tokens = RaggedTokens.from_lists([row[: self.max_tokens] for row in tokens])
        else:
            assert chunk.texts is not None
            tokens = tokenise(chunk.texts, self.tokenizer, self.max_tokens)
        if tokens.num_tokens and not 0 <= tokens.ids.min() <= tokens.ids.max() < self.vocabulary:
            bad = tokens.ids[(tokens.ids < 0) | (tokens.ids >= self.vocabulary)][0]
            raise ValueError(
                f"token id {bad} is outside the tokenizer's vocabulary of {self.vocabulary} entries; "
                "give the tokenizer that made the ids."
            )
        return tokens


def tokenise(texts: Sequence[str], tokenizer: Any, max_tokens: int | None = None) -> RaggedTokens:
    """The tokens of ``texts`` without special tokens, each cut to its first ``max_tokens``."""
    if not texts:
        return RaggedTokens.from_lists([])
    ids = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return RaggedTokens.from_lists([row[:max_tokens] for row in ids])
