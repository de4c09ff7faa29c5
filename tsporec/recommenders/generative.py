"""A generative recommender: a prompt shows the texts of the history, and the next item's title continues it.

Features are plain ``{"input_ids", "labels", "item_spans"}``, so any collator and any Trainer takes them, and
:class:`~tsporec.collators.selector.SelectorCollator` cuts them. Candidate items are ranked by the exact likelihood of
their titles.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec._internal.progress import progress
from tsporec._internal.seeds import seeded
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
    template : PromptTemplate

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_embd=8, n_layer=1, n_head=2)).eval()
    >>> texts, titles = ([[10], [11], [12]], [[20, 2], [21, 2], [22, 2]])
    >>> template = PromptTemplate(*map(RaggedTokens.from_lists, (texts, titles)), [1], [5], [6])
    >>> GenerativeRecommender(model, template).candidate_log_likelihoods(template.feature([0]), [1, 2]).shape
    (2,)
    """

    def __init__(self, model: Any, template: PromptTemplate) -> None:
        self.model, self.template = model, template

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def fit(
        self,
        features: Sequence[dict[str, Any]],
        collator: Any,
        epochs: int = 1,
        batch_size: int = 8,
        learning_rate: float = 1e-4,
        seed: int = 0,
    ) -> list[float]:
        """Fine-tune the model on ``features`` through ``collator``, and return the loss of each step.

        This is a small loop for tests and benchmarks. For real training give the same features and collator to
        ``transformers.Trainer``. Order and dropout follow ``seed``; torch's global random state is left as it was.
        """
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=learning_rate)
        losses = []
        self.model.train()
        with seeded(seed):
            for _ in range(epochs):
                order = torch.split(torch.randperm(len(features)), batch_size)
                for rows in progress(order, "fine-tune"):
                    loss = self._loss(collator([dict(features[i]) for i in rows.tolist()]))
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    losses.append(float(loss.detach()))
        self.model.eval()
        return losses

    def _loss(self, batch: Any) -> Tensor:
        """Compute the model's own loss, the mean over labels, without logits for positions before the first label."""
        inputs = {key: value.to(self._device) for key, value in batch.items()}
        labels = inputs.pop("labels")
        used = torch.nonzero((labels != IGNORED_LABEL).any(dim=0)).flatten()
        count = labels.shape[1] - max(int(used[0]) - 1, 0) if len(used) else labels.shape[1]
        if "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            inputs["logits_to_keep"] = count
        logits = self.model(**inputs).logits[:, -count:-1].float()
        return F.cross_entropy(logits.flatten(0, 1), labels[:, 1 - count :].flatten(), ignore_index=IGNORED_LABEL)

    @torch.inference_mode()
    def candidate_log_likelihoods(self, feature: dict[str, Any], candidates: Sequence[int]) -> NDArray[np.float32]:
        """Compute the exact log-likelihood of each candidate item's title: float32 ``[C]``, in nats.

        ``feature`` comes from :meth:`PromptTemplate.feature` without a target, cut or whole. The prompt is read once;
        its keys and values serve all candidates.
        """
        if not len(candidates):
            return np.zeros(0, dtype=np.float32)
        self.model.eval()
        prompt = torch.tensor([feature["input_ids"]], device=self._device)
        out = self.model(input_ids=prompt, use_cache=True)
        past, logits = out.past_key_values, out.logits[:, -1]
        past.batch_repeat_interleave(len(candidates))
        # [[7, 2], [9]] -> ids [[7, 2], [9, 0]]. Padding follows the titles, so causal attention needs no mask.
        padded, known = self.template.titles.take(candidates).to_padded()
        ids = torch.from_numpy(padded.astype(np.int64)).to(self._device)
        logits = logits[:, None].expand(len(candidates), -1, -1)
        if ids.shape[1] > 1:
            rest = self.model(input_ids=ids[:, :-1], past_key_values=past, use_cache=True).logits
            logits = torch.cat([logits, rest], dim=1)
        chosen = F.log_softmax(logits.float(), dim=-1).gather(2, ids[..., None])[..., 0]
        total: NDArray[np.float32] = (chosen * torch.from_numpy(known).to(self._device)).sum(dim=1).cpu().numpy()
        return total
