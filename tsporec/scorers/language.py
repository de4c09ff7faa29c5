"""The base class of scorers that read texts with a language model: binding, windows, scores for other tokens."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from torch import Tensor, nn

from tsporec._internal.types import expect
from tsporec.language_model import (
    cut_layers,
    load_pretrained,
    max_positions,
    round_scores,
    run_equal_lengths,
    split_windows,
    weights_digest,
)
from tsporec.scorers.base import BaseScorer, Scores
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import Pieces, read_pieces
from tsporec.tokens.ragged import RaggedTokens, check_ids


class LanguageScorer(BaseScorer):
    """A scorer that reads with a causal LM, in the model's own tokens. A subclass only defines :meth:`read`.

    Parameters
    ----------
    model : causal LM, folder or Hub id
        A module is put into eval mode.
    tokenizer : fast tokenizer of ``model``, optional
        Needed if the scored ids come from another tokenizer. Texts are then tokenised again, and scores are carried
        over by character offsets. Default: None (the ids are the model's own), or the tokenizer of the folder or Hub
        id.
    layers : int, optional
        Read with the first layers only. Default: all.
    window : int, optional
        Tokens read at once, special tokens not counted. A longer text is read in pieces that do not see each other.
        Default: as many as the model has positions for.
    """

    auto_class = "AutoModelForCausalLM"
    reads_text = False
    """True if ids are always spelled and tokenised again, even if they come from the model's tokenizer."""

    def __init__(self, model: Any, tokenizer: Any = None, layers: int | None = None, window: int | None = None) -> None:
        if not isinstance(model, nn.Module):
            model, loaded = load_pretrained(self.auto_class, model)
            tokenizer = loaded if tokenizer is None else tokenizer
        if tokenizer is not None and not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"{type(tokenizer).__name__} gives no character offsets, which carry scores over to other tokens; "
                "give a fast tokenizer (AutoTokenizer.from_pretrained(..., use_fast=True))."
            )
        self.model, self.tokenizer = cut_layers(model.eval(), layers), tokenizer
        positions, special = max_positions(model), self.special_positions()
        most = None if positions is None else positions - special
        expect("window", window, int | None, "a whole number, or None")
        if window is not None and not 1 <= window <= (most or window):
            raise ValueError(
                f"this model reads from 1 to {most or 'any number of'} tokens of a text at once; found window={window}."
            )
        self.window = most if window is None else window
        self.reader: Pieces | None = None  # spells ids of another tokenizer than the model's
        self._digest: list[Any] | None = None

    def special_positions(self) -> int:
        """Count the positions that special tokens take: one, for the beginning-of-sequence token."""
        return 1

    def read(self, ids: Tensor) -> Tensor:
        """Score ``ids`` int64 ``[B, L]`` of the model's tokenizer, rows of equal length: float ``[B, L]``."""
        raise NotImplementedError

    def for_tokenizer(self, tokenizer: Any) -> LanguageScorer:
        """Return a scorer for ids of ``tokenizer``. It shares the model."""
        bound, pieces = copy.copy(self), read_pieces(tokenizer)
        bound.tokenizer_fingerprint = pieces.fingerprint
        known = None if self.tokenizer is None else tokenizer_fingerprint(self.tokenizer)
        bound.reader = pieces if self.reads_text or known not in (None, pieces.fingerprint) else None
        return bound

    def config(self) -> dict[str, Any]:
        """Return the window, a digest of the model and, if texts are tokenised again, both tokenizers' fingerprints."""
        if self._digest is None:
            self._digest = weights_digest(self.model)
        both = [] if self.reader is None else [self.reader.fingerprint, tokenizer_fingerprint(self.tokenizer)]
        return {"weights": self._digest, "tokenizers": both, "window": self.window}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return scores of 12 significant bits: float32 ``[T]``. A segment's scores do not depend on the batch."""
        return self._score_model_ids(tokens) if self.reader is None else self._score_texts(tokens, self.reader)

    def _score_model_ids(self, tokens: RaggedTokens) -> Scores:
        """Score ids of the model's own tokenizer."""
        remedy = "give the scorer the model's tokenizer, and call for_tokenizer with the tokenizer of the ids"
        check_ids(tokens.ids, self.model.config.vocab_size, f"the {self.name} model's vocabulary", remedy)
        device = next(self.model.parameters()).device
        windows = split_windows(tokens, self.window)
        return round_scores(run_equal_lengths(windows, self.read, device, self.name))

    def _score_texts(self, tokens: RaggedTokens, reader: Pieces) -> Scores:
        """Score ids of another tokenizer: spell them, tokenise and score the texts, carry the scores over.

        A token gets the mean over its characters of the score of the other token at that character. Characters without
        a token (white space) are left out. A token of only such characters gets the text's lowest score.
        """
        texts = [reader.text(segment) for segment in tokens]
        if not texts:
            return np.zeros(0, dtype=np.float32)
        encoded = self.tokenizer([text for text, _ in texts], add_special_tokens=False, return_offsets_mapping=True)
        other = RaggedTokens.from_lists(encoded["input_ids"])
        theirs = self._score_model_ids(other)
        scores = np.zeros(tokens.num_tokens, dtype=np.float32)
        for i, (text, spans) in enumerate(texts):
            values = theirs[other.cu_seqlens[i] : other.cu_seqlens[i + 1]]
            if not len(spans) or not len(values):
                continue
            # "gel pen", other tokens (0, 3): .5 and (4, 7): .2 -> total [.5 .5 .5 0 .2 .2 .2], covered [1 1 1 0 1 1 1]
            covered, total = np.zeros((2, len(text) + 1), dtype=np.float64)
            for (start, end), value in zip(encoded["offset_mapping"][i], values.tolist(), strict=True):
                total[start:end] += value
                covered[start:end] += 1
            # Differences of running sums give the sum over each token's span: (0, 4) -> 1.5 over 3 characters
            sums, counts = (np.cumsum(np.append(0, part)) for part in (total, covered))
            count = counts[spans[:, 1]] - counts[spans[:, 0]]
            mean = (sums[spans[:, 1]] - sums[spans[:, 0]]) / np.maximum(count, 1)
            scores[tokens.cu_seqlens[i] : tokens.cu_seqlens[i + 1]] = np.where(count > 0, mean, values.min())
        return scores
