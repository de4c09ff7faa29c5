"""A token classifier that was taught what to keep, in the manner of LLMLingua-2 (Pan et al., 2024)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tsporec.language_model import (
    load_pretrained,
    max_positions,
    round_scores,
    run_equal_lengths,
    split_windows,
    weights_digest,
)
from tsporec.scorers.base import BaseScorer, Scores
from tsporec.scorers.language import check_fast, check_least_one, score_by_offsets
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import Pieces, read_pieces
from tsporec.tokens.ragged import RaggedTokens


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
    window : int, optional
        Tokens read at once, special tokens not counted. By default 510, or fewer where the model has fewer positions.
    batch_tokens : int, optional
        As in :class:`~tsporec.scorers.language.LanguageScorer`.

    Notes
    -----
    A model given as a module is put into eval mode.
    """

    name = "llmlingua2"

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        keep_label: int = 1,
        window: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        check_least_one(batch_tokens=batch_tokens, window=window)
        if isinstance(model, nn.Module):
            self.model: Any = model.eval()
        else:
            self.model, own = load_pretrained("AutoModelForTokenClassification", model)
            tokenizer = own if tokenizer is None else tokenizer
        if tokenizer is None:
            raise ValueError("a classifier reads with its own tokenizer; give it: LLMLingua2Scorer(model, tokenizer).")
        check_fast(tokenizer)
        labels = int(self.model.config.num_labels)
        if not 0 <= keep_label < labels:
            raise ValueError(f"keep_label must be one of the model's {labels} labels, from 0; found {keep_label}.")
        self.before, self.after = _special_around(tokenizer)
        positions = max_positions(self.model)
        most = 510 if positions is None else positions - len(self.before) - len(self.after)
        if window is not None and positions is not None and window > most:
            raise ValueError(f"this model reads at most {most} tokens between its special ones; found window={window}.")
        self.tokenizer, self.keep_label = tokenizer, keep_label
        self.window, self.batch_tokens = min(510, most) if window is None else window, batch_tokens
        self.reader: Pieces | None = None
        self._digest: list[Any] | None = None

    def for_tokenizer(self, tokenizer: Any) -> LLMLingua2Scorer:
        """A scorer for ids of ``tokenizer``; the model is shared."""
        bound = copy.copy(self)
        bound.reader = read_pieces(tokenizer)
        return bound

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Fingerprint of the tokenizer of the texts; None while the scorer is unbound."""
        return None if self.reader is None else self.reader.fingerprint

    def config(self) -> dict[str, Any]:
        """The label, the window, and digests of the model and of both tokenizers."""
        if self._digest is None:
            self._digest = weights_digest(self.model)
        both = ["" if self.reader is None else self.reader.fingerprint, tokenizer_fingerprint(self.tokenizer)]
        return {"weights": self._digest, "keep_label": self.keep_label, "window": self.window, "tokenizers": both}

    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]`` in [0, 1], of 12 significant bits; a segment's scores do not depend on the batch."""
        if self.reader is None:
            raise ValueError("this scorer reads text; call for_tokenizer(tokenizer) with the one the ids are of.")
        return score_by_offsets(tokens, self.reader, self.tokenizer, self._score_own)

    def _score_own(self, tokens: RaggedTokens) -> Scores:
        size = self.model.config.vocab_size
        if tokens.num_tokens and int(tokens.ids.max()) >= size:
            raise ValueError(
                f"the tokenizer gave id {int(tokens.ids.max())}, outside the model's vocabulary of {size}; give the "
                "classifier's own tokenizer."
            )
        device = next(self.model.parameters()).device
        windows = split_windows(tokens, self.window)
        return round_scores(run_equal_lengths(windows, self._read, device, self.name, self.batch_tokens))

    def _read(self, ids: Tensor) -> Tensor:
        """The probability of the label for ``ids [B, L]``, float ``[B, L]``; the special tokens are read with them."""
        before, after = (ids.new_tensor(special).expand(len(ids), -1) for special in (self.before, self.after))
        logits = self.model(input_ids=torch.cat([before, ids, after], dim=1)).logits
        kept: Tensor = logits[:, len(self.before) : len(self.before) + ids.shape[1]].softmax(dim=-1)
        return kept[..., self.keep_label]


def _special_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text."""
    whole, bare = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise ValueError(f"{type(tokenizer).__name__} changes a text's own tokens where it adds special ones.")
