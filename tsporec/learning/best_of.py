"""Choose one of several rankings for each item by a reward: the selector for a recommender that stays as it is.

A frozen recommender reads well what it was warmed up on, and little else. So subsets that no rule would keep are a
gamble with it, whatever their reward. Here each text takes one of a few given rankings of its tokens as a whole. A
reward measured on few interactions is noise, so a text leaves the first ranking only for a gain above a margin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tsporec.learning.candidates import Candidates
from tsporec.learning.rewards.base import Floats, ProxyReward, checked_rewards
from tsporec.scorers.base import Scorer
from tsporec.selection import Selection, rank, score_tokens, select
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens, segment_digests


def ranking_rewards(
    tokens: RaggedTokens, scorers: Sequence[Scorer], reward: ProxyReward, budgets: Sequence[int]
) -> Floats:
    """Rate what each of S scorers keeps of each segment, as a mean over ``budgets``: float32 ``[N, S]``."""
    if not budgets:
        raise ValueError("budgets is empty; give one or more budgets in tokens.")
    every = np.arange(len(tokens))
    found = np.zeros((len(tokens), len(scorers)), dtype=np.float32)
    for column, scorer in enumerate(scorers):
        for budget in budgets:
            kept = select(scorer, tokens, budget)
            subsets = Candidates(every, np.full(len(every), budget), kept.kept, kept.cu_seqlens)
            found[:, column] += checked_rewards(reward(tokens, subsets), subsets, type(reward).__name__)
    return found / np.float32(len(budgets))


def choose(tokens: RaggedTokens, rewards: Floats, margin: float = 0.0) -> NDArray[np.int64]:
    """Choose a column of ``rewards`` for each segment: int64 ``[N]``.

    Parameters
    ----------
    tokens : RaggedTokens
        N segments. Segments of equal text get the column with the best mean reward.
    rewards : float ``[N, S]``
        Rewards from :func:`ranking_rewards`.
    margin : float
        Gain over the first column, in units of the reward, that another column needs. At least 0. Default: 0.
        Ties go to the earlier column.

    Raises
    ------
    ValueError
        If the rewards have another shape or are not finite, or the margin is below 0.

    Examples
    --------
    >>> tokens = RaggedTokens.from_lists([[5, 6], [7, 8]])
    >>> choose(tokens, np.float32([[0.0, 0.5], [0.0, 0.1]]), margin=0.3).tolist()
    [1, 0]
    """
    if not np.isfinite(rewards).all():
        raise ValueError("a reward is NaN or infinite; expected finite ones from ranking_rewards.")
    if rewards.ndim != 2 or len(rewards) != len(tokens) or not rewards.shape[1] or not margin >= 0:
        raise ValueError(
            f"expected rewards [{len(tokens)}, S] and a margin of at least 0; found {list(rewards.shape)} and {margin}."
        )
    # A number for each segment, the same for equal texts: int64 [N].
    group = np.unique(segment_digests(tokens), return_inverse=True)[1].reshape(-1)
    # Mean gain over the first column for each different text: [N, S] -> [texts, S]
    gain = np.zeros((int(group.max(initial=-1)) + 1, rewards.shape[1]))
    np.add.at(gain, group, rewards - rewards[:, :1])
    gain /= np.bincount(group)[:, None]
    gain[:, 1:] -= margin
    chosen: NDArray[np.int64] = gain.argmax(axis=1)[group]
    return chosen


def best_of(
    tokens: RaggedTokens, selector: TokenSelector, scorers: Sequence[Scorer], rewards: Floats, margin: float = 0.0
) -> TokenSelector:
    """Return a selector that ranks the tokens of each segment as the scorer does that :func:`choose` chooses.

    A word piece that stands in a text twice is ranked by its first place. Short texts of the same letters are one item.

    Parameters
    ----------
    tokens : RaggedTokens
        N segments.
    selector : TokenSelector
        Bound to the tokenizer. It scores texts that are not among these.
    scorers : sequence of S scorers
        The first is kept where no other is better by more than ``margin``.
    rewards, margin
        Arguments of :func:`choose`.

    Examples
    --------
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.scorers import make_scorer
    >>> tokenizer = word_tokenizer("blue gel pen".split())
    >>> tokens = RaggedTokens.from_lists(tokenizer(["blue gel pen"], add_special_tokens=False)["input_ids"])
    >>> rules = [make_scorer("random", seed=1), make_scorer("head")]
    >>> selector = best_of(tokens, TokenSelector().for_tokenizer(tokenizer), rules, np.float32([[0.0, 1.0]]))
    >>> tokenizer.decode(select(selector, tokens, 2).apply(tokens)[0]).strip()
    'blue gel'
    """
    if rewards.shape != (len(tokens), len(scorers)):
        raise ValueError(f"expected rewards [{len(tokens)}, {len(scorers)}]; found {list(rewards.shape)}.")
    chosen = np.repeat(choose(tokens, rewards, margin), tokens.lengths)
    every = Selection(np.arange(tokens.num_tokens), tokens.cu_seqlens)
    ranks = np.stack([rank(score_tokens(scorer, tokens), every) for scorer in scorers])
    # Ranks [S, T] and the chosen scorer of each token [T] -> scores [T]
    scores = -ranks[chosen, every.kept].astype(np.float32)
    return selector.with_item_weights(tokens).set_item_scores(tokens, scores)
