"""A generative recommender: a prompt shows the texts of the history, and the next item's title continues it.

Features are plain ``{"input_ids", "labels", "item_spans"}``, so any collator and any Trainer takes them, and
:class:`~tsporec.collators.selector.SelectorCollator` cuts them. Beam search over the titles ranks the whole catalogue.
A few candidate items are ranked by their exact likelihood.
"""

from __future__ import annotations

import inspect
from collections import Counter
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
from tsporec.recommenders.trie import Trie
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
    >>> found = GenerativeRecommender(model, template).recommend(template.feature([0]), exclude=[0])
    >>> sorted(item for item, log_likelihood in found)
    [1, 2]
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
        past, logits = self._read_prompt(feature)
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

    @torch.inference_mode()
    def recommend(
        self, feature: dict[str, Any], beams: int = 20, exclude: Sequence[int] = ()
    ) -> list[tuple[int, float]]:
        """Find the items with the likeliest titles by beam search: (item, log-likelihood in nats), best first.

        Beam search may miss an item whose title begins with unlikely tokens. Items with equal titles share a likelihood
        and are ordered by their index.

        Parameters
        ----------
        feature : dict
            From :meth:`PromptTemplate.feature` without a target, cut or whole.
        beams : int
            Number of beginnings of titles to keep at every length, and of items to return at most. Default: 20.
        exclude : item indices
            Items to leave out, such as the history.
        """
        # transformers' generate(prefix_allowed_tokens_fn=...) finds the same items in 2 to 4 times the time: it reads
        # the prompt once for each beam and fills up with dead beams.
        if beams < 1:
            raise ValueError(f"beams must be at least 1, found {beams}.")
        self.model.eval()
        past, logits = self._read_prompt(feature)
        live: list[tuple[float, int]] = [(0.0, 0)]  # (log-likelihood, trie node)
        done: list[tuple[int, float]] = []
        excluded = set(exclude)
        # Excluded items below each node: a node that leads to no other item is never entered.
        hidden = Counter(n for item in excluded for n in self.trie.path(self.template.titles[item].tolist()))
        while live:
            log_p = F.log_softmax(logits.float(), dim=-1).cpu().numpy()
            grown = [
                (score + float(log_p[row, token]), after, row, token)
                for row, (score, node) in enumerate(live)
                for token, after in self.trie.children[node].items()
                if self.trie.counts[after] > hidden[after]
            ]
            grown = sorted(grown, key=lambda beam: -beam[0])[:beams]
            done += [(i, score) for score, node, *_ in grown for i in self.trie.items[node] if i not in excluded]
            done.sort(key=lambda found: (-found[1], found[0]))
            # A longer title is never likelier than its beginning, so a beam below the last place cannot come back.
            bar = done[beams - 1][1] if len(done) >= beams else -np.inf
            kept = [beam for beam in grown if self.trie.children[beam[1]] and beam[0] > bar]
            live = [(score, node) for score, node, *_ in kept]
            if live:
                past.reorder_cache(torch.tensor([row for _, _, row, _ in kept], device=self._device))
                tokens = torch.tensor([[token] for *_, token in kept], device=self._device)
                out = self.model(input_ids=tokens, past_key_values=past, use_cache=True)
                past, logits = out.past_key_values, out.logits[:, -1]
        return done[:beams]

    def _read_prompt(self, feature: dict[str, Any]) -> tuple[Any, Tensor]:
        """Read a prompt: (its keys and values, logits ``[1, V]`` of the next token)."""
        ids = torch.tensor([feature["input_ids"]], device=self._device)
        out = self.model(input_ids=ids, use_cache=True)
        return out.past_key_values, out.logits[:, -1]


def ranks_of_targets(
    recommended: Sequence[Sequence[tuple[int, float]]], targets: Sequence[int], items: int
) -> NDArray[np.int64]:
    """Find the rank of each target in its list: int64 ``[B]``, 1 the best. A target that is absent ranks at ``items``.

    >>> ranks_of_targets([[(7, -1.0), (3, -2.0)], [(7, -1.0)]], [3, 5], items=100).tolist()
    [2, 100]
    """
    found = []
    for row, target in zip(recommended, targets, strict=True):
        place = [item for item, _ in row]
        found.append(1 + place.index(target) if target in place else items)
    return np.array(found, dtype=np.int64)
