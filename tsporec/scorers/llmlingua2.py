"""A token classifier that was taught what to keep, in the manner of LLMLingua-2 (Pan et al., 2024)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tsporec.language_model import run_equal_lengths, weights_digest
from tsporec.pieces import Pieces, read_pieces
from tsporec.ragged import RaggedTokens
from tsporec.scorers.base import BaseScorer, Scores
from tsporec.scorers.language import score_by_offsets


class LLMLingua2Scorer(BaseScorer):
    """The probability of the label "keep" of any Hugging Face token-classification model.

    It reads texts with its own tokenizer, in windows of at most ``window`` tokens between its special tokens,
    batched by length without padding; scores are carried over by character offsets.

    Parameters
    ----------
    model : token-classification model, folder or Hub id
    tokenizer : its tokenizer (fast); a folder or Hub id brings its own
    keep_label : int
        The label that means "keep"; 1 in the published checkpoints.
    window : int
        Tokens read at once, special tokens not counted.
    """

    name = "llmlingua2"

    def __init__(self, model: Any, tokenizer: Any = None, keep_label: int = 1, window: int = 510) -> None:
        if isinstance(model, nn.Module):
            self.model = model.eval()
        else:
            from transformers import AutoModelForTokenClassification, AutoTokenizer

            self.model = AutoModelForTokenClassification.from_pretrained(Path(model) if Path(model).is_dir() else model)
            self.model.eval()
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(model)
        if tokenizer is None:
            raise ValueError("a classifier reads with its own tokenizer; give it: LLMLingua2Scorer(model, tokenizer).")
        self.tokenizer, self.keep_label, self.window = tokenizer, keep_label, window
        self.reader: Pieces | None = None
        self._digest: list[Any] | None = None

    def for_tokenizer(self, tokenizer: Any) -> LLMLingua2Scorer:
        """A scorer for ids of ``tokenizer``; the model is shared."""
        bound = copy.copy(self)
        bound.reader = read_pieces(tokenizer)
        return bound

    def config(self) -> dict[str, Any]:
        """The label, the window, and digests of the model and of the tokenizer read from."""
        if self._digest is None:
            self._digest = weights_digest(self.model)
        reader = self.reader.fingerprint if self.reader else ""
        return {"weights": self._digest, "keep_label": self.keep_label, "window": self.window, "reader": reader}

    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]`` in [0, 1]; a segment's scores do not depend on the batch."""
        if self.reader is None:
            raise ValueError("this scorer reads text; call for_tokenizer(tokenizer) with the one the ids are of.")
        return score_by_offsets(tokens, self.reader, self.tokenizer, self._score_own)

    def _score_own(self, tokens: RaggedTokens) -> Scores:
        windows = [s[i : i + self.window].tolist() for s in tokens for i in range(0, len(s), self.window)]
        device = next(self.model.parameters()).device
        return run_equal_lengths(RaggedTokens.from_lists(windows), self._read, device, self.name)

    def _read(self, ids: Tensor) -> Tensor:
        whole, bare = (self.tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
        before = whole.index(bare[0])
        first, last = whole[:before], whole[before + len(bare) :]
        parts = [ids.new_tensor(first).expand(len(ids), -1), ids, ids.new_tensor(last).expand(len(ids), -1)]
        logits = self.model(input_ids=torch.cat(parts, dim=1)).logits[:, len(first) : len(first) + ids.shape[1]]
        kept: Tensor = logits.softmax(dim=-1)[..., self.keep_label]
        return kept
