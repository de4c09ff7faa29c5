"""Reward subsets with which a causal LM finds a feature's labels more likely."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.progress import progress
from tsporec.collators.columns import FlatColumns
from tsporec.collators.positions import renumber
from tsporec.collators.spans import IGNORED_LABEL, ITEM_SPANS, SpanFinder, find_spans
from tsporec.language_model import weights_digest
from tsporec.learning.candidates import Candidates
from tsporec.learning.rewards.base import Floats
from tsporec.tokens.pieces import special_token_ids
from tsporec.tokens.ragged import RaggedTokens


class LabelReward:
    """Return the log-likelihood in nats that a causal LM's own loss gives a feature's labels.

    Each candidate's feature goes through the model alone, in a batch of one, with the user's collator and the model's
    loss. So the reward includes whatever these do.

    Parameters
    ----------
    model : Hugging Face model
        Its output has a ``loss``: the mean over the labels, as Hugging Face computes it.
    collator : callable
        The recommender's own collator. The fingerprint holds only its name. Give another folder for the same collator
        with other settings.
    features : sequence of mappings
        Features with ``input_ids`` and ``labels``.
    spans : str, (int, int) or callable
        Where the item texts stand; see :class:`~tsporec.collators.selector.SelectorCollator`. Default: "item_spans".
    rest : int, optional
        Number of first tokens that the other spans keep. Give the budget that the recommender was warmed up with.
        Default: they stay whole.

    Attributes
    ----------
    segments : RaggedTokens
        The spans of all features: the corpus that the reward rates.
    owner : int64 ``[N]``
        The feature of each segment.

    Examples
    --------
    >>> from transformers import DataCollatorForSeq2Seq, GPT2Config, GPT2LMHeadModel
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2))
    >>> feature = {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, -100, 8], "item_spans": [(0, 3)]}
    >>> LabelReward(model, DataCollatorForSeq2Seq(word_tokenizer(["pen"])), [feature]).segments.to_lists()
    [[5, 6, 7]]
    """

    def __init__(
        self,
        model: Any,
        collator: Callable[[list[Any]], Any],
        features: Sequence[Mapping[str, Any]],
        spans: str | tuple[int, int] | SpanFinder = ITEM_SPANS,
        rest: int | None = None,
    ) -> None:
        self.model, self.collator, self.features, self.spans, self.rest = model.eval(), collator, features, spans, rest
        self.layout = FlatColumns([find_spans(spans)], "input_ids", (), (), renumber)
        self.parts = [part for feature in features for part in self.layout.parts(feature)]
        self.protected_ids = special_token_ids(getattr(collator, "tokenizer", None))
        self.segments = RaggedTokens.from_lists([p.ids[start:end] for p in self.parts for start, end in p.spans])
        self.owner = np.repeat(np.arange(len(self.parts)), [len(part.spans) for part in self.parts])
        for number, feature in enumerate(features):
            if "labels" not in feature or (np.asarray(feature["labels"]) == IGNORED_LABEL).all():
                raise ValueError(f"feature {number} has no labels to rate; expected some that are not {IGNORED_LABEL}.")
        texts = [np.asarray(feature[name]) for feature in features for name in ("input_ids", "labels")]
        kind = getattr(collator, "__qualname__", type(collator).__qualname__)
        self.fingerprint = digest(
            "label", *texts, self.segments.ids, self.segments.cu_seqlens, self.owner, rest, kind, weights_digest(model)
        )

    @torch.inference_mode()
    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """Return float32 ``[C]`` in nats for subsets of ``self.segments``; see :class:`ProxyReward`."""
        known = self.segments
        if not np.array_equal(tokens.cu_seqlens, known.cu_seqlens) or not np.array_equal(tokens.ids, known.ids):
            raise ValueError(
                f"LabelReward rates subsets of the {len(known)} spans of its own features; found {len(tokens)} other "
                "segments. Give it LabelReward.segments."
            )
        device = next(self.model.parameters()).device
        rewards = np.empty(len(candidates), dtype=np.float32)
        first = np.searchsorted(self.owner, np.arange(len(self.features)))
        for number in progress(range(len(candidates)), "rewards"):
            segment = int(candidates.segment[number])
            owner = int(self.owner[segment])
            batch = self._cut(owner, segment - int(first[owner]), candidates[number] - int(tokens.cu_seqlens[segment]))
            labels = int((batch["labels"][..., 1:] != IGNORED_LABEL).sum())
            inputs = {key: value.to(device) if hasattr(value, "to") else value for key, value in batch.items()}
            rewards[number] = -float(self.model(**inputs).loss) * labels
        return rewards

    def _cut(self, owner: int, span: int, kept: NDArray[np.int64]) -> Any:
        """Return the batch of one feature with its span number ``span`` cut to the places ``kept`` within it."""
        part = self.parts[owner]
        keep = np.isin(part.ids, self.protected_ids)
        if part.labelled is not None:
            keep |= part.labelled
        outside = np.ones(len(part.ids), dtype=bool)
        for number, (start, end) in enumerate(part.spans):
            outside[start:end] = False
            rest = end if self.rest is None else min(start + self.rest, end)
            keep[start + kept if number == span else slice(start, rest)] = True
        return self.collator([self.layout.rebuild(self.features[owner], [np.flatnonzero(keep | outside)])])
