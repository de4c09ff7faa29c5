"""An embedding recommender in the manner of HLLM (Chen et al., 2024): item vectors from text, a user model over them.

An item's vector is a projection of its features, which come from :class:`~tsporec.recommenders.encoder.ItemEncoder`. A
small causal transformer reads the vectors of a history. Items with vectors close to its output are recommended.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec._internal.files import write_whole
from tsporec._internal.seeds import seeded
from tsporec._internal.tensors import read_tensors, write_tensors
from tsporec._internal.types import check_types
from tsporec.recommenders.training import HeldOutRows, drop_out, train_to_end

History = Sequence[int]
CONFIG, WEIGHTS = "recommender.json", "recommender.safetensors"


@dataclass(frozen=True)
class EmbeddingConfig:
    """Shape and training of an :class:`EmbeddingRecommender`.

    Parameters
    ----------
    width, layers, heads : int
        Size of the user model. Default: 96, 1, 2.
    dropout : float
        Dropout of the user model and of item features. Default: 0.2.
    max_history : int
        Number of items read; older items are cut off. Default: 10.
    temperature : float
        Temperature of the softmax over cosine similarities before training. It is learned. Default: 0.05.
    eval_every, patience : int
        The next items of held-out users are ranked every ``eval_every`` steps. Training goes on until their NDCG has
        not gained for ``patience`` evaluations. Default: 50, 3.
    cool_down : float
        Length of the cool-down that follows, as a share of the steps before it. The learning rate falls linearly to 0.
        Default: 0.5.
    max_steps : int
        Most steps before the cool-down; reaching them is a warning. Default: 20,000.
    averaging : float
        Decay of the moving average of weights, which is evaluated and kept. Default: 0.99.
    batch_size : int
        Sequences of one step. Default: 128.
    learning_rate, weight_decay : float
        Options of AdamW. The learning rate rises linearly over the first ``eval_every`` steps. Default: 4e-3, 0.01.
    seed : int
        Random seed of weights, order and dropout. Default: 0.
    """

    width: int = 96
    layers: int = 1
    heads: int = 2
    dropout: float = 0.2
    max_history: int = 10
    temperature: float = 0.05
    eval_every: int = 50
    patience: int = 3
    cool_down: float = 0.5
    max_steps: int = 20_000
    averaging: float = 0.99
    batch_size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)


class EmbeddingRecommender(nn.Module):
    """Project item features, read histories, rank all items. Make one with :func:`make_recommender`.

    Parameters
    ----------
    feature_width : int
        Width W of an item's features.
    config : EmbeddingConfig, optional

    Examples
    --------
    >>> features = np.eye(4, dtype=np.float32)
    >>> recommender = make_recommender(4, EmbeddingConfig(width=8, eval_every=5))
    >>> recommender = recommender.fit(features, [[0, 1, 2], [1, 2, 3]], held_out=[[0, 1]])
    >>> recommender.scores(features, [[0, 1], [2]]).shape
    (2, 4)
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, feature_width: int, config: EmbeddingConfig | None = None) -> None:
        super().__init__()
        self.config = config or EmbeddingConfig()
        width = self.config.width
        self.register_buffer("mean", torch.zeros(feature_width))
        self.register_buffer("scale", torch.ones(feature_width))
        self.project = nn.Linear(feature_width, width)
        self.place = nn.Embedding(self.config.max_history, width)
        layer = nn.TransformerEncoderLayer(
            width, self.config.heads, 2 * width, self.config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.reader = nn.TransformerEncoder(layer, self.config.layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.dropout = nn.Dropout(self.config.dropout)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(self.config.temperature)))

    def item_vectors(self, features: Tensor) -> Tensor:
        """Map item features ``[..., W]`` to unit vectors ``[..., width]``."""
        return self._project(self._standardise(features))

    def _standardise(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale

    def _project(self, standardised: Tensor) -> Tensor:
        dropped = drop_out(standardised, self.config.dropout) if self.training else standardised
        return F.normalize(self.project(dropped), dim=-1)

    @torch.no_grad()
    def _whiten(self, standardised: Tensor) -> None:
        """Set the projection to the principal components of ``[N, W]``, each scaled to unit variance.

        Vectors then start from what sets items apart, and are the same for every seed.
        """
        # [W, W] -> variances [W], ascending, and directions [W, W], one a column
        variances, directions = torch.linalg.eigh(standardised.T @ standardised / len(standardised))
        found = torch.nonzero(variances > 1e-4 * variances[-1]).flatten()[-self.config.width :]
        self.project.weight.zero_()
        self.project.weight[: len(found)] = directions[:, found].T / variances[found, None].sqrt()
        self.project.bias.zero_()

    def contexts(self, vectors: Tensor, histories: Tensor) -> Tensor:
        """Read histories: a unit vector for every place of every history, which has seen the items up to that place.

        Parameters
        ----------
        vectors : float ``[N, width]``
            Vectors of all items.
        histories : int64 ``[B, L]``
            Item indices, oldest first, right-padded with -1.

        Returns
        -------
        float ``[B, L, width]``
        """
        length = histories.shape[1]
        read = vectors[histories.clamp(min=0)] * math.sqrt(self.config.width) + self.place.weight[:length]
        causal = torch.ones(length, length, dtype=torch.bool, device=histories.device).triu(1)
        # Padding follows the items and attention is causal, so no padding mask is needed.
        return F.normalize(self.reader(self.dropout(read), mask=causal), dim=-1)

    @property
    def temperature(self) -> float:
        """Learned temperature: similarities are divided by it before the softmax."""
        return float(self.log_temperature.detach().exp())

    @torch.no_grad()
    def user_contexts(self, vectors: Tensor, histories: Sequence[History]) -> Tensor:
        """Read histories (none empty) in eval mode: ``[M, width]``, the context after each history's last item."""
        self.eval()
        parts = []
        for start in range(0, len(histories), 512):
            padded = pad_histories(histories[start : start + 512], self.config.max_history).to(vectors.device)
            last = (padded >= 0).sum(dim=1) - 1
            parts.append(self.contexts(vectors, padded)[torch.arange(len(padded)), last])
        return torch.cat(parts) if parts else vectors.new_zeros(0, self.config.width)

    @torch.no_grad()
    def scores(self, features: NDArray[np.float32], histories: Sequence[History]) -> NDArray[np.float32]:
        """Score every item after each history: logits float32 ``[M, N]`` from item features ``[N, W]``."""
        self.eval()
        vectors = self.item_vectors(torch.from_numpy(features))
        return (self.user_contexts(vectors, histories) @ vectors.T / self.temperature).numpy()

    def fit(
        self,
        features: NDArray[np.float32],
        sequences: Sequence[History],
        held_out: Sequence[History],
        description: str = "fit",
    ) -> EmbeddingRecommender:
        """Train to predict every next item of ``sequences`` among all items, until held-out users gain no more.

        1. Set the projection to the principal components of the features.
        2. Train with AdamW until held-out users gain no more; see :func:`~tsporec.recommenders.training.train_to_end`.
        3. Keep the averaged weights.

        Order, views and dropout follow ``config.seed``. Torch's global random state is left as it was.

        Parameters
        ----------
        features : float32 ``[N, W]`` or ``[V, N, W]``
            Features of all items, or V views of each item (token subsets). Every step samples a view of every item;
            held-out sequences are read with the mean of the views.
        sequences, held_out : sequences of item indices
            Each needs at least two items.
        description : str
            Label of the progress bar.

        Warns
        -----
        UserWarning
            If training reaches ``max_steps`` while held-out users still gain.
        """
        if not sequences or not held_out or min(map(len, [*sequences, *held_out])) < 2:
            raise ValueError("fit needs training and held-out sequences of at least two items each.")
        if features.ndim not in (2, 3) or features.shape[-1] != len(self.mean) or not np.isfinite(features).all():
            raise ValueError(
                f"features must be finite, [N, {len(self.mean)}] or [V, N, {len(self.mean)}]; found shape "
                f"{list(features.shape)}{'' if np.isfinite(features).all() else ' with NaN or infinity'}."
            )
        views = torch.from_numpy(features if features.ndim == 3 else features[None])
        self.mean.copy_(views.flatten(0, 1).mean(dim=0))
        self.scale.copy_(views.flatten(0, 1).std(dim=0) + 1e-6)
        fixed = self._standardise(views.mean(dim=0))
        self._whiten(fixed)
        windows = pad_histories(cut_windows(sequences, self.config.max_history + 1), self.config.max_history + 1)
        items = torch.arange(views.shape[1])

        def loss(batch: Tensor) -> Tensor:
            one = len(views) == 1
            sampled = fixed if one else self._standardise(views[torch.randint(len(views), items.shape), items])
            return self._loss(self._project(sampled), windows[batch])

        held = HeldOutRows.of(held_out)
        with seeded(self.config.seed):
            train_to_end(self, len(windows), loss, lambda model: held.ndcg(model, model._project(fixed)), description)
        return self.eval()

    def _loss(self, vectors: Tensor, windows: Tensor) -> Tensor:
        """Compute the mean cross-entropy of every next item in ``windows [B, L]``, padded with -1."""
        given, targets = windows[:, :-1], windows[:, 1:]
        known = targets >= 0
        # The contexts are scaled and not the logits, which are many more.
        contexts = self.contexts(vectors, given)[known] / self.log_temperature.exp()
        return F.cross_entropy(contexts @ vectors.T, targets[known])

    def save(self, folder: str | Path) -> None:
        """Write config (JSON) and weights (safetensors) to ``folder``."""
        folder = Path(folder)
        write_tensors(folder / WEIGHTS, self.state_dict())
        header = {"feature_width": self.mean.shape[0], **asdict(self.config)}
        write_whole(folder / CONFIG, (json.dumps(header, indent=2, sort_keys=True) + "\n").encode())

    @classmethod
    def load(cls, folder: str | Path) -> EmbeddingRecommender:
        """Load a recommender that :meth:`save` wrote, in eval mode. A missing or damaged file is a ValueError."""
        path = Path(folder) / CONFIG
        try:
            header = json.loads(path.read_text())
            recommender = make_recommender(header.pop("feature_width"), EmbeddingConfig(**header))
            recommender.load_state_dict(read_tensors(path.with_name(WEIGHTS)))
        except (OSError, KeyError, TypeError, RuntimeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path} is missing, damaged or of other weights ({error}). Restore it, or delete {folder} and run "
                "again."
            ) from error
        return recommender.eval()


def make_recommender(feature_width: int, config: EmbeddingConfig | None = None) -> EmbeddingRecommender:
    """Make a recommender with weights from ``config.seed``. Torch's global random state is left as it was."""
    config = config or EmbeddingConfig()
    with seeded(config.seed):
        return EmbeddingRecommender(feature_width, config)


def pad_histories(histories: Sequence[History], longest: int) -> Tensor:
    """Keep the last ``longest`` items of each history and pad on the right with -1: int64 ``[M, L]``.

    >>> pad_histories([[1, 2, 3], [4]], 2).tolist()
    [[2, 3], [4, -1]]
    """
    cut = [list(history)[-longest:] for history in histories]
    if not all(cut):
        raise ValueError("a history is empty; a user without items has no context.")
    width = max(map(len, cut), default=1)
    return torch.tensor([row + [-1] * (width - len(row)) for row in cut], dtype=torch.int64).reshape(len(cut), width)


def cut_windows(sequences: Sequence[History], longest: int) -> list[History]:
    """Cut sequences into windows of at most ``longest`` items that predict every item but each sequence's first, once.

    >>> cut_windows([[1, 2, 3, 4, 5]], 3)
    [[1, 2, 3], [3, 4, 5]]
    """
    windows: list[History] = []
    for sequence in sequences:
        items = list(sequence)
        windows.extend(items[start : start + longest] for start in range(0, max(len(items) - 1, 1), longest - 1))
    return windows
