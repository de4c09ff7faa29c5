"""A generative recommender: a prompt with the history's texts, the next item's title as its continuation.

Features are plain ``{"input_ids", "labels", "item_spans"}``, so any collator and any Trainer takes them, and
:class:`~tsporec.collators.selector.SelectorCollator` cuts them. The catalogue is ranked by beam search that can
only spell titles; a few recommendation candidates are ranked by their exact likelihood.
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
from tsporec.collators.spans import IGNORED_LABEL
from tsporec.recommenders.trie import Trie
from tsporec.tokens.ragged import RaggedTokens

INSTRUCTION = "The user bought, oldest first:"
QUESTION = "\nThe user buys next:"
SEPARATOR = "\n-"


@dataclass(frozen=True, eq=False)
class PromptTemplate:
    """Prompts from histories, with the span of every item's text.

    Parameters
    ----------
    texts : RaggedTokens
        The text of every item, as the prompt shows it.
    titles : RaggedTokens
        The title of every item, as it is generated; each ends with ``end``.
    instruction, separator, question : lists of token ids
        Before the items, before each item, after them.
    """

    texts: RaggedTokens
    titles: RaggedTokens
    instruction: list[int]
    separator: list[int]
    question: list[int]

    @classmethod
    def build(cls, texts: RaggedTokens, titles: Sequence[str], tokenizer: Any) -> PromptTemplate:
        """The template in English for ``tokenizer``; titles get a leading space and the end-of-sequence token."""
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
        """The feature of one history (item indices, oldest first); labels are the target's title, if one is given."""
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
    """Ranks items by the likelihood that a causal LM gives their titles after a prompt.

    Parameters
    ----------
    model : a Hugging Face causal LM
    template : PromptTemplate
    """

    def __init__(self, model: Any, template: PromptTemplate) -> None:
        self.model, self.template = model, template
        self.trie = Trie(template.titles.to_lists())

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
        """Fine-tune the model on ``features`` through ``collator`` (a :class:`SelectorCollator`, say); the losses.

        A small loop for tests and benchmarks; for real training give the same features and collator to
        ``transformers.Trainer``.
        """
        torch.manual_seed(seed)
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=learning_rate)
        losses = []
        self.model.train()
        for _ in range(epochs):
            order = torch.split(torch.randperm(len(features)), batch_size)
            for rows in progress(order, description="fine-tune"):
                loss = self._loss(collator([dict(features[i]) for i in rows.tolist()]))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(float(loss.detach()))
        self.model.eval()
        return losses

    def _loss(self, batch: Any) -> Tensor:
        """The mean over the labels, as the model's own; no logits are made before the first of them."""
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
        """float32 ``[C]``: the exact log-likelihood, in nats, of each recommendation candidate's title.

        ``feature`` ends where titles begin (:meth:`PromptTemplate.feature` without a target, cut or not). The
        prompt is read once, its keys and values serve all candidates.
        """
        if not len(candidates):
            return np.zeros(0, dtype=np.float32)
        self.model.eval()
        past, first = self._read_prompt(feature, len(candidates))
        titles = [self.template.titles[item].astype(np.int64) for item in candidates]
        width = max(map(len, titles))
        ids = torch.full((len(titles), width), 0, dtype=torch.int64)
        known = torch.zeros(len(titles), width, dtype=torch.bool)
        for row, title in enumerate(titles):
            ids[row, : len(title)] = torch.from_numpy(title)
            known[row, : len(title)] = True
        ids, known = ids.to(self._device), known.to(self._device)
        logits = first[:, None]
        if width > 1:
            # Padding stands behind the titles and nothing known looks back at it, so it needs no mask.
            rest = self.model(input_ids=ids[:, :-1], past_key_values=past, use_cache=True).logits
            logits = torch.cat([logits, rest], dim=1)
        chosen = F.log_softmax(logits.float(), dim=-1).gather(2, ids[..., None])[..., 0]
        total: NDArray[np.float32] = (chosen * known).sum(dim=1).cpu().numpy()
        return total

    @torch.inference_mode()
    def recommend(
        self, feature: dict[str, Any], beams: int = 20, exclude: Sequence[int] = ()
    ) -> list[tuple[int, float]]:
        """(item, log-likelihood of its title), best first, by beam search over the titles' trie.

        At most ``beams`` hypotheses are kept at every length, so an item may be missed whose title begins unlikely;
        items that share a title share its likelihood, the first of them first.

        Parameters
        ----------
        feature : as :meth:`PromptTemplate.feature` gives it without a target, cut or not
        beams : int
        exclude : item indices that are not recommended (the history)
        """
        if beams < 1:
            raise ValueError(f"beams must be at least 1, found {beams}.")
        self.model.eval()
        past, logits = self._read_prompt(feature, 1)
        live: list[tuple[float, int]] = [(0.0, 0)]  # (log-likelihood, trie node)
        excluded, done = set(exclude), []
        while live:
            log_p = F.log_softmax(logits.float(), dim=-1).cpu().numpy()
            grown = [
                (score + float(log_p[row, token]), after, row, token)
                for row, (score, node) in enumerate(live)
                for token, after in self.trie.children(node).items()
            ]
            grown.sort(key=lambda entry: -entry[0])
            kept = []
            for score, node, row, token in grown[: beams + len(excluded)]:
                done += [(item, score) for item in self.trie.ends(node) if item not in excluded]
                if self.trie.children(node):
                    kept.append((score, node, row, token))
            kept = kept[:beams]
            done.sort(key=lambda entry: (-entry[1], entry[0]))
            # A longer title is never likelier than its beginning, so hypotheses below the last place are lost.
            bar = done[beams - 1][1] if len(done) >= beams else -np.inf
            kept = [entry for entry in kept if entry[0] > bar]
            live = [(score, node) for score, node, _, _ in kept]
            if live:
                past.reorder_cache(torch.tensor([row for _, _, row, _ in kept], device=self._device))
                tokens = torch.tensor([[token] for *_, token in kept], device=self._device)
                out = self.model(input_ids=tokens, past_key_values=past, use_cache=True)
                past, logits = out.past_key_values, out.logits[:, -1]
        return done[:beams]

    def _read_prompt(self, feature: dict[str, Any], rows: int) -> tuple[Any, Tensor]:
        """(keys and values, logits of the next token), both repeated ``rows`` times."""
        ids = torch.tensor([feature["input_ids"]], device=self._device)
        out = self.model(input_ids=ids, use_cache=True)
        past = out.past_key_values
        if rows > 1:
            past.batch_repeat_interleave(rows)
        return past, out.logits[:, -1].expand(rows, -1)


def ranks_of_targets(
    recommended: Sequence[Sequence[tuple[int, float]]], targets: Sequence[int], items: int
) -> NDArray[np.int64]:
    """int64 ``[B]``: the rank of each target in its list, 1 the best; one not in its list ranks last, at ``items``."""
    found = []
    for row, target in zip(recommended, targets, strict=True):
        place = [item for item, _ in row]
        found.append(1 + place.index(target) if target in place else items)
    return np.array(found, dtype=np.int64)
