"""Compare a recommender with popularity. One that is not clearly better has learned nothing worth a reward."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tsporec.evaluation.task import Task
from tsporec.metrics import ndcg, paired_bootstrap
from tsporec.recommenders.embedding import EmbeddingRecommender


def require_better_than_popularity(
    task: Task,
    recommender: EmbeddingRecommender,
    vectors: NDArray[np.float32],
    unseen: Sequence[Sequence[int]],
    description: str,
) -> None:
    """Refuse a recommender that does not predict users whom it has not seen clearly better than popularity does.

    Popularity ranks all items by their count in the training sequences. Both rank every next item of the users that is
    new to them. Clearly better means that the 95% interval, over users, of the difference of NDCG@10 lies above 0.

    The recommender was fitted on the training sequences of ``task``, and reads ``vectors`` float32 ``[N, W]``.
    ``unseen`` has one sequence of item indices of each user who is not in them. ``description`` names the recommender.
    """
    places = task.next_items(unseen)
    users = [user for user, new in zip(places.users, places.new, strict=True) if new]
    if not users:
        raise ValueError(f"{description}: no unseen user touches a new item, so nothing shows what it has learned.")
    own = ndcg(places.ranks(recommender, vectors)[places.new], 10)
    popular = ndcg(places.popularity_ranks()[places.new], 10)
    mean, low, high = paired_bootstrap(own, popular, users)
    if low <= 0:
        raise ValueError(
            f"{description} is not clearly better than popularity on {len(unseen)} unseen users: NDCG@10 "
            f"{own.mean():.4f} against {popular.mean():.4f}, difference {mean:+.4f} [{low:+.4f}, {high:+.4f}]. "
            "No reward is taken from it. Give more users or longer texts, raise EmbeddingConfig.patience, or name a "
            "reward without a recommender (coconsumption)."
        )
