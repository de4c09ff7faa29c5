"""Train a recommender until held-out users gain no more: steps, averaged weights, patience in evaluations.

Steps and held-out users decide when to stop, so catalogues of any size are trained to their end.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from tsporec._internal.progress import progress

if TYPE_CHECKING:
    from tsporec.recommenders.embedding import EmbeddingRecommender

_PLACES = 4096  # held-out places that an evaluation ranks at most
_GAIN = 0.005  # share by which held-out NDCG has to rise to count as a gain


@dataclass(frozen=True, eq=False)
class HeldOutRows:
    """Hold the places of held-out users that an evaluation ranks: the items before each, and the item at it.

    Parameters
    ----------
    histories : list of sequences of item indices
        The items before each of M places, oldest first.
    targets : int64 ``[M]``
        The item at each place. Items that the user has touched before are left out, if any others are there.
    rows, seen : int64 ``[K]``
        Item ``seen[i]`` stands in the history of place ``rows[i]`` and is not ranked there.
    """

    histories: list[Sequence[int]]
    targets: Tensor
    rows: Tensor
    seen: Tensor

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> HeldOutRows:
        """Make the rows of every next item of ``sequences``; of more than 4,096, as many at equal distances."""
        places = [(s[:place], s[place]) for s in sequences for place in range(1, len(s))]
        places = [(history, target) for history, target in places if target not in history] or places
        places = places[:: -(-len(places) // _PLACES)]
        histories = [history for history, _ in places]
        rows = torch.repeat_interleave(torch.tensor([len(history) for history in histories]))
        seen = torch.tensor(list(chain.from_iterable(histories)))
        return cls(histories, torch.tensor([target for _, target in places]), rows, seen)

    @torch.no_grad()
    def ndcg(self, recommender: EmbeddingRecommender, vectors: Tensor) -> float:
        """Compute the mean of ``1 / log2(1 + rank)`` over all places, without a cut at a rank.

        Without the cut every place counts, which makes differences between evaluations less noisy. Items of equal
        score share the mean of their ranks.
        """
        scores = recommender.user_contexts(vectors, self.histories) @ vectors.T
        target = scores.gather(1, self.targets[:, None])
        scores[self.rows, self.seen] = -math.inf
        rank = 0.5 + ((scores > target).sum(dim=1) + (scores >= target).sum(dim=1)) / 2
        return float((1 / torch.log2(1 + rank.clamp(min=1))).mean())


def train_to_end(
    model: EmbeddingRecommender,
    count: int,
    loss: Callable[[Tensor], Tensor],
    quality: Callable[[EmbeddingRecommender], float],
    description: str,
) -> None:
    """Train ``model`` until ``quality`` gains no more, cool it down and give it its averaged weights.

    1. The learning rate rises over the first ``eval_every`` steps and then stays.
    2. Every ``eval_every`` steps, ``quality`` rates the averaged weights. A rise by under half a percent is no gain.
    3. After ``patience`` evaluations without a gain, the learning rate falls linearly to 0. This takes ``cool_down``
       times the steps so far.

    The averaged weights at the end are kept and not those of the best evaluation: which evaluation is best is chance,
    and would differ from seed to seed. All options are those of the model's config.

    Parameters
    ----------
    model : EmbeddingRecommender
    count : int
        Number of training windows. They are shuffled anew whenever all have been used.
    loss : callable
        Takes the window numbers of a batch, int64 ``[B]``, and returns the loss of ``model``.
    quality : callable
        Takes a copy of the model that has the averaged weights, and returns a figure that is to rise.
    description : str
        Label of the progress bar.
    """
    config = model.config

    def move(average: list[Tensor], weights: list[Tensor], steps: Tensor | int) -> None:
        # Early averages span fewer steps, so that the initial weights are soon forgotten.
        decay = min(config.averaging, (1 + int(steps)) / (10 + int(steps)))
        torch._foreach_lerp_(average, weights, 1 - decay)

    averaged = AveragedModel(model, multi_avg_fn=move).eval()  # type: ignore[arg-type]
    copy = cast("EmbeddingRecommender", averaged.module)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    best, waited, end = 0.0, 0, config.max_steps
    cooling_from = end
    batches: list[Tensor] = []
    model.train()
    for step in progress(itertools.count(1), description):
        batches = batches or list(torch.split(torch.randperm(count), config.batch_size))
        rate = min(1, step / config.eval_every, (end + 1 - step) / (end + 1 - cooling_from))
        optimizer.param_groups[0]["lr"] = config.learning_rate * rate
        optimizer.zero_grad(set_to_none=True)
        loss(batches.pop()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        averaged.update_parameters(model)
        if step >= end:
            break
        if step % config.eval_every or cooling_from < end:
            continue
        found = quality(copy)
        best, waited = (found, 0) if found > best * (1 + _GAIN) else (best, waited + 1)
        if waited >= config.patience:
            cooling_from, end = step, step + max(1, round(config.cool_down * step))
    if end == config.max_steps:
        warnings.warn(
            f"{description}: training ended at max_steps={config.max_steps} and not because held-out users gained no "
            "more; raise max_steps.",
            stacklevel=3,
        )
    model.load_state_dict(copy.state_dict())


def drop_out(values: Tensor, share: float) -> Tensor:
    """Set about ``share`` of the values to 0 and scale the rest up, as ``nn.Dropout`` does while training.

    A value is dropped by a random byte, so ``share`` is rounded to a 256th. This takes a fifth of ``nn.Dropout``'s
    time on a CPU, which would be a quarter of a training step.
    """
    below = round(256 * share)
    words = torch.empty(-(-values.numel() // 8), dtype=torch.int64, device=values.device).random_(-(2**63), None)
    noise = words.view(torch.uint8)[: values.numel()].view(values.shape)
    return values * (noise >= below) / (1 - below / 256)
