"""What scorers that read with a language model share: binding, another vocabulary, batching."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsporec.language_model import (
    cut_layers,
    load_causal_lm,
    max_positions,
    round_scores,
    run_equal_lengths,
    split_windows,
    weights_digest,
)
from tsporec.scorers.base import BaseScorer, Scores
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import Pieces, read_pieces
from tsporec.tokens.ragged import RaggedTokens


class LanguageScorer(BaseScorer):
    """A scorer that reads with a causal LM; a subclass says what it makes of a batch in :meth:`read`.

    Parameters
    ----------
    model : causal LM, folder or Hub id
    tokenizer : tokenizer of ``model``, optional
        Needed where the texts' ids are of another tokenizer (then the texts are read again with this one, and scores
        are carried over by character offsets). None: the ids are the model's own. A folder or Hub id brings its own.
    layers : int, optional
        Read with the first layers only.
    batch_tokens : int, optional
        Tokens of one forward on an accelerator, ``batch_tokens // L`` texts of length ``L``; 4,096 by default. On a
        CPU a forward reads one text.
    window : int, optional
        Tokens read at once: a longer text is read in pieces that know nothing of each other. By default as many as
        the model has positions for.

    Notes
    -----
    A model given as a module is put into eval mode.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        layers: int | None = None,
        batch_tokens: int | None = None,
        window: int | None = None,
    ) -> None:
        check_least_one(batch_tokens=batch_tokens, window=window)
        if isinstance(model, torch.nn.Module):
            self.model, self.tokenizer = cut_layers(model.eval(), layers), tokenizer
        else:
            self.model, own = load_causal_lm(model, layers)
            self.tokenizer = own if tokenizer is None else tokenizer
        check_fast(self.tokenizer)
        positions = max_positions(self.model)
        most = None if positions is None else positions - 1  # a beginning-of-sequence token is one of them
        if window is not None and most is not None and window > most:
            raise ValueError(f"this model reads at most {most} tokens at once; found window={window}.")
        self.batch_tokens, self.window = batch_tokens, most if window is None else window
        self.reader: Pieces | None = None  # of the texts' tokenizer, where it is not the model's
        self._digest: list[Any] | None = None

    def for_tokenizer(self, tokenizer: Any) -> LanguageScorer:
        """A scorer for ids of ``tokenizer``; the model is shared."""
        bound = copy.copy(self)
        own = None if self.tokenizer is None else read_pieces(self.tokenizer)
        theirs = read_pieces(tokenizer)
        bound.reader = None if own is None or own.fingerprint == theirs.fingerprint else theirs
        return bound

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Fingerprint of the tokenizer of the texts; None while the scorer is unbound."""
        return None if self.reader is None else self.reader.fingerprint

    def config(self) -> dict[str, Any]:
        """The window, and digests of the model and, where texts are read again, of both tokenizers."""
        if self._digest is None:
            self._digest = weights_digest(self.model)
        both = [] if self.reader is None else [self.reader.fingerprint, tokenizer_fingerprint(self.tokenizer)]
        return {"weights": self._digest, "tokenizers": both, "window": self.window}

    def read(self, ids: Tensor) -> Tensor:
        """Scores float ``[B, L]`` of ``ids`` int64 ``[B, L]``, rows of one length without padding."""
        raise NotImplementedError

    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]`` of 12 significant bits; on a CPU a segment's scores do not depend on the batch."""
        if self.reader is not None:
            return score_by_offsets(tokens, self.reader, self.tokenizer, self._score_own)
        return self._score_own(tokens)

    def _score_own(self, tokens: RaggedTokens) -> Scores:
        size = self.model.config.vocab_size
        wrong = tokens.ids[(tokens.ids < 0) | (tokens.ids >= size)]
        if len(wrong):
            raise ValueError(
                f"token id {wrong[0]} is outside the {self.name} model's vocabulary of {size}; give the "
                "scorer its tokenizer and call for_tokenizer with the one the ids are of."
            )
        device = next(self.model.parameters()).device
        windows = split_windows(tokens, self.window)
        return round_scores(run_equal_lengths(windows, self.read, device, self.name, self.batch_tokens))


def check_least_one(**options: int | None) -> None:
    """Refuse options that are given and below 1."""
    for name, value in options.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1 token; found {value}.")


def check_fast(tokenizer: Any) -> None:
    """Refuse a tokenizer that cannot say where its tokens stand in a text."""
    if tokenizer is not None and not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} gives no character offsets, which carry scores over to other tokens; "
            "give a fast tokenizer (AutoTokenizer.from_pretrained(..., use_fast=True))."
        )


def score_by_offsets(tokens: RaggedTokens, reader: Pieces, tokenizer: Any, score: Any) -> Scores:
    """Scores of ``tokens`` from those that ``score`` gives their texts in another tokenization.

    A token's score is the mean over its characters of the score of the other token that covers each; characters
    that no token covers (white space) count only where a token has no others, and then as the text's lowest score.
    """
    texts = [reader.text(segment) for segment in tokens]
    if not texts:
        return np.zeros(0, dtype=np.float32)
    encoded = tokenizer([text for text, _ in texts], add_special_tokens=False, return_offsets_mapping=True)
    other = RaggedTokens.from_lists(encoded["input_ids"])
    theirs = score(other)
    scores = np.zeros(tokens.num_tokens, dtype=np.float32)
    for i, (text, spans) in enumerate(texts):
        values = theirs[other.cu_seqlens[i] : other.cu_seqlens[i + 1]]
        if not len(spans) or not len(values):
            continue
        covered = np.zeros(len(text) + 1, dtype=np.float64)
        total = np.zeros(len(text) + 1, dtype=np.float64)
        for (start, end), value in zip(encoded["offset_mapping"][i], values.tolist(), strict=True):
            total[start:end] += value
            covered[start:end] += 1
        sums, counts = np.cumsum(np.append(0, total)), np.cumsum(np.append(0, covered))
        count = counts[spans[:, 1]] - counts[spans[:, 0]]
        mean = (sums[spans[:, 1]] - sums[spans[:, 0]]) / np.maximum(count, 1)
        scores[tokens.cu_seqlens[i] : tokens.cu_seqlens[i + 1]] = np.where(count > 0, mean, values.min())
    return scores
