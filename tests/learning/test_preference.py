"""Candidates, losses, rewards: against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEXTS, make_causal_lm, random_tokens
from tsporec.learning.candidates import CandidateConfig, Candidates, sample_candidates
from tsporec.learning.losses import LOSS_TYPES, preference_loss, subset_sums
from tsporec.learning.rewards.base import CandidateEncoder, checked_rewards
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.rewards.identity import IdentityReward
from tsporec.learning.rewards.label import LabelReward
from tsporec.learning.rewards.recommendation import RecommendationReward
from tsporec.learning.rewards.weighted import WeightedReward, cross_fitted
from tsporec.recommenders.embedding import EmbeddingConfig, make_recommender
from tsporec.tokens.ragged import RaggedTokens


class TableEncoder:
    """The mean of fixed token vectors."""

    fingerprint = "table"

    def __init__(self, vocab: int = 50, width: int = 6) -> None:
        self.table = np.random.default_rng(0).normal(size=(vocab, width)).astype(np.float32)

    def encode(self, tokens: RaggedTokens) -> np.ndarray:
        return np.stack([self.table[ids].mean(0) if len(ids) else 0 * self.table[0] for ids in tokens])


def as_candidates(segments, pieces) -> Candidates:
    packed = RaggedTokens.from_lists(pieces)
    size = packed.lengths.astype(np.int64)
    return Candidates(np.array(segments), size, packed.ids.astype(np.int64), packed.cu_seqlens)


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(2, 9))
def test_candidates_have_exact_sizes_and_stay_inside(seed, budget, count):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, 7)
    scores = rng.normal(size=tokens.num_tokens).astype(np.float32)
    config = CandidateConfig((budget, 3), count)
    found = sample_candidates(scores, tokens, config, seed)
    assert len(found) == 7 * 2 * count
    sizes = np.diff(found.cu_seqlens)
    np.testing.assert_array_equal(sizes, np.minimum(tokens.lengths[found.segment], found.budget))
    for i in range(len(found)):
        kept, low = found[i], tokens.cu_seqlens[found.segment[i]]
        assert (np.diff(kept) > 0).all()
        assert len(kept) == 0 or (kept[0] >= low and kept[-1] < tokens.cu_seqlens[found.segment[i] + 1])
    # A segment's candidates do not depend on what else is sampled, and are the same again.
    alone = sample_candidates(scores, tokens, config, seed, [4])
    np.testing.assert_array_equal(alone.kept, np.concatenate([found[i] for i in np.flatnonzero(found.segment == 4)]))


def test_first_candidate_is_the_best_and_swaps_change_a_few():
    tokens = RaggedTokens.from_lists([list(range(30))])
    scores = np.random.default_rng(0).normal(size=30).astype(np.float32)
    found = sample_candidates(scores, tokens, CandidateConfig((8,), 40, uniform=0, swapped=1, swaps=2), 0)
    best = set(np.argsort(-scores)[:8].tolist())
    assert set(found[0].tolist()) == best
    changed = {len(best - set(found[i].tolist())) for i in range(1, 40)}
    assert changed == {1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": ()}, "budgets"), ({"budgets": (0,)}, "budgets"), ({"count": 1}, "count"),
        ({"uniform": 0.7, "swapped": 0.7}, "shares"), ({"temperature": 0.0}, "temperature"),
    ],
)  # fmt: skip
def test_bad_candidate_options(options, message):
    with pytest.raises(ValueError, match=message):
        CandidateConfig(**options)


def test_scores_must_be_finite():
    tokens = RaggedTokens.from_lists([[1, 2]])
    with pytest.raises(ValueError, match="finite score"):
        sample_candidates(np.array([np.nan, 1], dtype=np.float32), tokens, CandidateConfig(), 0)


def enumerated_log_p(scores: np.ndarray, subset: tuple[int, ...]) -> float:
    """The conditional Bernoulli log-probability of a subset, by enumeration of all of its size."""
    every = [scores[list(s)].sum() for s in combinations(range(len(scores)), len(subset))]
    return float(scores[list(subset)].sum() - np.logaddexp.reduce(every))


@given(st.integers(0, 10_000), st.sampled_from(LOSS_TYPES), st.sampled_from([0.0, 0.2]))
def test_losses_agree_with_enumeration(seed, loss_type, smoothing):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 7))
    k, beta = int(rng.integers(1, n)), float(rng.uniform(0.2, 2))
    scores, reference = rng.normal(size=(2, n))
    better, worse = (tuple(sorted(rng.choice(n, k, replace=False).tolist())) for _ in range(2))
    d = float(rng.uniform(0, 2))
    h = (enumerated_log_p(scores, better) - enumerated_log_p(scores, worse)) - (
        enumerated_log_p(reference, better) - enumerated_log_p(reference, worse)
    )

    def f(h: float, d: float) -> float:
        return {
            "sigmoid": np.logaddexp(0, -beta * h),
            "ipo": (h - 0.5 / beta) ** 2,
            "hinge": max(0.0, 1 - beta * h),
            "regression": (beta * h - d) ** 2,
        }[loss_type]

    expected = (1 - smoothing) * f(h, d) + smoothing * f(-h, d)
    kept, cu = torch.tensor([*better, *worse]), torch.tensor([0, k, 2 * k])
    ratio = subset_sums(torch.from_numpy(scores - reference), kept, cu)
    found = preference_loss((ratio[0] - ratio[1])[None], beta, loss_type, smoothing, torch.tensor([d]))
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_loss_errors():
    h = torch.zeros(1)
    with pytest.raises(ValueError, match="loss_type must be"):
        preference_loss(h, 1.0, "dpo")
    with pytest.raises(ValueError, match="label_smoothing"):
        preference_loss(h, 1.0, label_smoothing=0.5)
    with pytest.raises(ValueError, match="needs the rewards"):
        preference_loss(h, 1.0, "regression")


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(3)
    tokens = RaggedTokens.from_lists([rng.integers(0, 50, size=9).tolist() for _ in range(12)])
    encoder = TableEncoder()
    features = encoder.encode(tokens)
    sequences = [rng.choice(12, size=4, replace=False).tolist() for _ in range(20)]
    recommender = make_recommender(6, EmbeddingConfig(width=8, epochs=2, temperature=0.3))
    recommender.fit(features, sequences[:10], sequences[10:])
    drawn = sample_candidates(np.zeros(tokens.num_tokens, dtype=np.float32), tokens, CandidateConfig((3,), 4), 0)
    return tokens, encoder, features, sequences, recommender, drawn


def test_recommendation_reward_is_the_exact_change_of_the_likelihood(world):
    tokens, encoder, features, sequences, recommender, drawn = world
    reward = RecommendationReward(CandidateEncoder(encoder), recommender, features, sequences, per_context=False)
    found = reward(tokens, drawn)
    vectors = recommender.item_vectors(torch.from_numpy(features)).detach()
    own = encoder.encode(drawn.apply(tokens))
    whole = np.empty(len(drawn))
    for c in range(len(drawn)):  # brute force: replace, and sum every log-likelihood anew
        replaced = vectors.clone()
        replaced[drawn.segment[c]] = recommender.item_vectors(torch.from_numpy(own[c])).detach()
        total = 0.0
        for sequence in sequences:
            contexts = recommender.contexts(vectors, torch.tensor([sequence[:-1]]))[0].detach()
            logits = contexts @ replaced.T / recommender.temperature
            total += float(logits.log_softmax(1)[torch.arange(3), torch.tensor(sequence[1:])].sum())
        whole[c] = total
    for item in range(12):
        rows = drawn.segment == item
        np.testing.assert_allclose(found[rows] - found[rows][0], whole[rows] - whole[rows][0], atol=2e-3)


def test_identity_reward(world):
    tokens, encoder, features, _, recommender, drawn = world
    for model in (None, recommender):
        found = IdentityReward(CandidateEncoder(encoder), features, model)(tokens, drawn)
        assert found.shape == (len(drawn),)
        assert (found < 0).all()
    whole = as_candidates(
        range(12), [range(a, b) for a, b in zip(tokens.cu_seqlens, tokens.cu_seqlens[1:], strict=False)]
    )
    sure = IdentityReward(CandidateEncoder(encoder), features, None, temperature=0.02)(tokens, whole)
    assert (sure > -0.2).all()  # the whole text is the item


def test_coconsumption_reward_by_hand():
    tokens = RaggedTokens.from_lists([[1, 2, 1], [1, 3], [4, 5], [1, 5]])
    reward = CoConsumptionReward(tokens, [[0, 1], [0, 3], [2]], shrink=1.0)
    share = (4 + 0.5) / (5 + 1)  # of five touches four hold token 1
    expected = np.log((2 + share) / ((2 + 1) * share))
    np.testing.assert_allclose(reward.token_lift[[0, 2]], expected, rtol=1e-6)
    assert reward.token_lift[4] < reward.token_lift[3]
    assert (reward.token_lift[5:7] == 0).all()  # item 2 has no company
    found = reward(tokens, as_candidates([0, 0], [[0, 2], [0, 1]]))
    assert found[0] == pytest.approx(expected, rel=1e-6)  # the repeat counts once
    assert found[1] == pytest.approx(float(reward.token_lift[:2].sum()), rel=1e-6)


def test_weighted_reward_standardises(world):
    tokens, encoder, features, _, recommender, drawn = world
    one = IdentityReward(CandidateEncoder(encoder), features, recommender)

    class Scaled:
        fingerprint = "scaled"

        def __call__(self, tokens, candidates):
            return 1000 * one(tokens, candidates) + 7

    same = WeightedReward({"a": one})(tokens, drawn)
    scaled = WeightedReward({"a": Scaled()})(tokens, drawn)
    np.testing.assert_allclose(scaled - scaled[0], same - same[0], atol=1e-2)
    mean = cross_fitted([one, one])(tokens, drawn)
    np.testing.assert_allclose(mean, same, rtol=1e-5)
    with pytest.raises(ValueError, match="finite weight"):
        WeightedReward({"a": one}, {"b": 1.0})
    with pytest.raises(ValueError, match="at least one"):
        WeightedReward({})


def test_label_reward_is_the_models_own_loss(tokenizer):
    from transformers import DataCollatorForSeq2Seq

    model = make_causal_lm(len(tokenizer))
    ids = tokenizer(TEXTS[:2], add_special_tokens=False)["input_ids"]
    feature = {
        "input_ids": ids[0] + ids[1][:4],
        "attention_mask": [1] * (len(ids[0]) + 4),
        "labels": [-100] * len(ids[0]) + ids[1][:4],
        "item_spans": [(0, 5), (6, 12)],
    }
    reward = LabelReward(model, DataCollatorForSeq2Seq(tokenizer), [feature, feature])
    assert reward.owner.tolist() == [0, 0, 1, 1]
    tokens = reward.segments
    cu = tokens.cu_seqlens
    found = reward(tokens, as_candidates([1, 3], [[cu[1] + 1, cu[1] + 4], [cu[3] + 1, cu[3] + 4]]))
    cut = [*ids[0][:6], ids[0][7], ids[0][10], *ids[0][12:], *ids[1][:4]]
    labels = [-100] * (len(cut) - 4) + ids[1][:4]
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([cut]), labels=torch.tensor([labels])).loss
    np.testing.assert_allclose(found, -4 * float(loss), rtol=1e-4)
    with pytest.raises(ValueError, match="its own features"):
        reward(tokens.take([0]), as_candidates([0], [[0]]))
    with pytest.raises(ValueError, match="feature 0 has no labels"):
        LabelReward(model, DataCollatorForSeq2Seq(tokenizer), [{**feature, "labels": [-100] * len(cut)}])


@pytest.mark.parametrize(
    ("rewards", "message"),
    [(np.zeros(3), "for 2 candidates"), (np.array([1, np.nan]), "is nan for candidate 1"), (["a", "b"], "one number")],
)
def test_bad_rewards(rewards, message):
    with pytest.raises(ValueError, match=message):
        checked_rewards(rewards, as_candidates([0, 0], [[0], [1]]), "mine")
