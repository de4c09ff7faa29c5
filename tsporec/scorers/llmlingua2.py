"""A token classifier that was trained to keep informative tokens, in the manner of LLMLingua-2 (Pan et al., 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tsporec.scorers.base import Scores
from tsporec.scorers.language import LanguageScorer
from tsporec.tokens.ragged import RaggedTokens

KEEP = 1  # the label that means so in the published checkpoints


class LLMLingua2Scorer(LanguageScorer):
    """Score a token by the probability that a token-classification model gives to "keep", its label 1.

    The model reads texts with its own tokenizer, between its special tokens. Scores in [0, 1] are carried over to the
    scored tokens by character offsets.

    Parameters
    ----------
    model : Hugging Face token-classification model, folder or Hub id
        A module is put into eval mode.
    tokenizer : fast tokenizer of ``model``
        Needed if ``model`` is a module. Default: the tokenizer of the folder or Hub id.
    window : int, optional
        Tokens read at once, special tokens not counted. Default: 510, or fewer if the model has fewer positions.

    Examples
    --------
    >>> from transformers import BertConfig, BertForTokenClassification
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer = word_tokenizer(["gel", "pen"])
    >>> shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    >>> model = BertForTokenClassification(BertConfig(vocab_size=len(tokenizer), **shape))
    >>> scorer = LLMLingua2Scorer(model, tokenizer).for_tokenizer(tokenizer)
    >>> scorer.score(RaggedTokens.from_lists([[4, 5]])).shape
    (2,)
    """

    name = "llmlingua2"
    auto_class = "AutoModelForTokenClassification"
    reads_text = True

    def __init__(self, model: Any, tokenizer: Any = None, window: int | None = None) -> None:
        super().__init__(model, tokenizer, window=window)
        if window is None:
            self.window = min(self.window or 510, 510)

    def special_positions(self) -> int:
        """Count the special tokens that the model's tokenizer puts around a text."""
        if self.tokenizer is None:
            raise ValueError("a classifier reads with its own tokenizer; give it: LLMLingua2Scorer(model, tokenizer).")
        if int(self.model.config.num_labels) != 2:
            raise ValueError(
                f"expected a model of the labels drop and keep; found {self.model.config.num_labels} labels."
            )
        self.before, self.after = _special_around(self.tokenizer)
        return len(self.before) + len(self.after)

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return probabilities of 12 significant bits: float32 ``[T]``. A scorer that is not bound is a ValueError."""
        if self.reader is None:
            raise ValueError("this scorer reads text; call for_tokenizer(tokenizer) with the tokenizer of the ids.")
        return super().score(tokens)

    def read(self, ids: Tensor) -> Tensor:
        """Score ``ids [B, L]``, read between special tokens: float ``[B, L]``."""
        before, after = (ids.new_tensor(special).expand(len(ids), -1) for special in (self.before, self.after))
        logits = self.model(input_ids=torch.cat([before, ids, after], dim=1)).logits
        kept: Tensor = logits[:, len(self.before) : len(self.before) + ids.shape[1]].softmax(dim=-1)[..., KEEP]
        return kept


def _special_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Find the special tokens that a tokenizer puts before and after a text."""
    whole, bare = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise ValueError(f"{type(tokenizer).__name__} changes a text's own tokens when it adds special tokens.")
