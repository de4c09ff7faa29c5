"""A generative recommender: a prompt shows the texts of the history, and the next item's title continues it.

Features are plain ``{"input_ids", "labels", "item_spans"}``, so any collator and any Trainer takes them, and
:class:`~tsporec.collators.selector.SelectorCollator` cuts them. Candidate items are ranked by the exact likelihood of
their titles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec._internal.progress import progress
from tsporec.collators.spans import IGNORED_LABEL
from tsporec.tokens.ragged import RaggedTokens

INSTRUCTION = "The user bought, oldest first:"
QUESTION = "\nThe user buys next:"
SEPARATOR = "\n-"


@dataclass(frozen=True, eq=False)
class PromptTemplate:
    """Make prompts from histories, with the span of every item's text.

    Parameters
    ----------
    texts : RaggedTokens
        The text of every item, as the prompt shows it.
    titles : RaggedTokens
        The title of every item, as it is generated. Each ends with the end-of-sequence token.
    instruction, separator, question : lists of token ids
        Tokens before the items, before each item, and after the items.

    Examples
    --------
    >>> texts, titles = ([[10, 11], [12]], [[20, 2], [21, 2]])
    >>> template = PromptTemplate(*map(RaggedTokens.from_lists, (texts, titles)), [1], [5], [6])
    >>> feature = template.feature([0, 1])
    >>> feature["input_ids"], feature["item_spans"]
    ([1, 5, 10, 11, 5, 12, 6], [(2, 4), (5, 6)])
    """

    texts: RaggedTokens
    titles: RaggedTokens
    instruction: list[int]
    separator: list[int]
    question: list[int]

    @classmethod
    def build(cls, texts: RaggedTokens, titles: Sequence[str], tokenizer: Any) -> PromptTemplate:
        """Build the English template for ``tokenizer``. Titles get a leading space and the end-of-sequence token."""
        end = tokenizer.eos_token_id
        if end is None:
            raise ValueError(
                "the tokenizer has no end-of-sequence token, which must end a title; set tokenizer.eos_token."
            )

        def ids(text: str) -> list[int]:
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])

        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        spelled = RaggedTokens.from_lists([[*ids(f" {title}"), end] for title in titles])
        return cls(texts, spelled, start + ids(INSTRUCTION), ids(SEPARATOR), ids(QUESTION))

    def feature(self, history: Sequence[int], target: int | None = None) -> dict[str, Any]:
        """Make the feature of a history (item indices, oldest first). A ``target``'s title becomes the labels."""
        ids, spans = list(self.instruction), []
        for item in history:
            ids += self.separator
            text = self.texts[item].tolist()
            spans.append((len(ids), len(ids) + len(text)))
            ids += text
        ids += self.question
        title = [] if target is None else self.titles[target].tolist()
        labels = [IGNORED_LABEL] * len(ids) + title
        return {
            "input_ids": ids + title,
            "attention_mask": [1] * len(labels),
            "labels": labels,
            "item_spans": [span for span in spans if span[1] > span[0]],
        }


class GenerativeRecommender:
    """Rank items by the likelihood that a causal LM gives their titles after a prompt.

    Parameters
    ----------
    model : Hugging Face causal LM
        It must take a mask ``[1, 1, L, L]``, which eager and SDPA attention do.
    template : PromptTemplate

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_embd=8, n_layer=1, n_head=2)).eval()
    >>> texts, titles = ([[10], [11], [12]], [[20, 2], [21, 2], [22, 2]])
    >>> template = PromptTemplate(*map(RaggedTokens.from_lists, (texts, titles)), [1], [5], [6])
    >>> recommender = GenerativeRecommender(model, template)
    >>> plain = recommender.plain_log_likelihoods()
    >>> left = recommender.candidate_log_likelihoods(template.feature([0]), [1, 2]) / plain[[1, 2]]
    >>> left.shape  # the share of each title's surprisal that is left after the prompt: rank by the smallest
    (2,)

    To fine-tune the model, give features with a target and a collator to ``transformers.Trainer``.
    """

    def __init__(self, model: Any, template: PromptTemplate) -> None:
        self.model, self.template = model, template

    @torch.inference_mode()
    def candidate_log_likelihoods(self, feature: dict[str, Any], candidates: Sequence[int]) -> NDArray[np.float32]:
        """Compute the exact log-likelihood of each candidate item's title: float32 ``[C]``, in nats.

        ``feature`` comes from :meth:`PromptTemplate.feature` without a target, cut or whole. The prompt is read once
        for all candidates: it is followed by all titles, and each of these sees the prompt and itself.
        Memory grows with the square of their number: give some dozens at a time.

        A prompt [5, 6] and the titles [7, 2], [8, 9, 2] are read as the ids [5, 6, 7, 8, 9] at the positions
        [0, 1, 2, 2, 3]. The tokens [7, 2, 8, 9, 2] are predicted at the places [1, 2, 1, 3, 4].
        """
        if not len(candidates):
            return np.zeros(0, dtype=np.float32)
        self.model.eval()
        ids = list(feature["input_ids"])
        start = len(ids)
        position, owner, places = list(range(start)), [-1] * start, list[int]()
        titles = [self.template.titles[item].tolist() for item in candidates]
        for number, title in enumerate(titles):
            places += [start - 1, *range(len(ids), len(ids) + len(title) - 1)]
            ids += title[:-1]
            position += range(start, start + len(title) - 1)
            owner += [number] * (len(title) - 1)
        device, of = self.model.device, torch.tensor(owner)
        seen = ((of == -1) | (of == of[:, None])).tril()
        # Eager attention adds the mask and does not take a boolean one.
        mask = torch.zeros(seen.shape, dtype=self.model.dtype).masked_fill(~seen, torch.finfo(self.model.dtype).min)
        logits = self.model(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([position], device=device),
            attention_mask=mask[None, None].to(device),
            logits_to_keep=torch.tensor(places, device=device),
            use_cache=False,
        ).logits[0]
        tokens = torch.tensor([token for title in titles for token in title], device=device)
        log_p = -F.cross_entropy(logits.float(), tokens, reduction="none")
        parts = torch.split(log_p, [len(title) for title in titles])
        return np.array([float(part.sum()) for part in parts], dtype=np.float32)

    def plain_log_likelihoods(self) -> NDArray[np.float32]:
        """Compute the log-likelihood of every title after a prompt without items: float32 ``[N]``, in nats."""
        alone, items = self.template.feature([]), np.arange(len(self.template.titles))
        parts = [items[begin : begin + 32].tolist() for begin in range(0, len(items), 32)]
        return np.concatenate([self.candidate_log_likelihoods(alone, part) for part in progress(parts, "titles")])
