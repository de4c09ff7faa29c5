"""Rewards agree with brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import TEXTS, make_causal_lm
from tsporec.learning.candidates import CandidateConfig, Candidates, sample_candidates
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


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(3)
    tokens = RaggedTokens.from_lists([rng.integers(0, 50, size=9).tolist() for _ in range(12)])
    encoder = TableEncoder()
    features = encoder.encode(tokens)
    sequences = [rng.choice(12, size=4, replace=False).tolist() for _ in range(20)]
    recommender = make_recommender(6, EmbeddingConfig(width=8, eval_every=5, patience=1, temperature=0.3))
    recommender.fit(features, sequences[:10], sequences[10:])
    sampled = sample_candidates(np.zeros(tokens.num_tokens, dtype=np.float32), tokens, CandidateConfig((3,), 4), 0)
    return tokens, encoder, features, sequences, recommender, sampled


def test_recommendation_reward_is_the_exact_change_of_the_likelihood(world):
    tokens, encoder, features, sequences, recommender, sampled = world
    reward = RecommendationReward(CandidateEncoder(encoder), recommender, features, sequences)
    contexts = np.bincount([item for s in sequences for item in s[1:]], minlength=12)
    found = reward(tokens, sampled) * (contexts + 1)[sampled.segment]
    vectors = recommender.item_vectors(torch.from_numpy(features)).detach()
    own = encoder.encode(sampled.apply(tokens))
    whole = np.empty(len(sampled))
    for c in range(len(sampled)):  # brute force: replace, and sum every log-likelihood anew
        replaced = vectors.clone()
        replaced[sampled.segment[c]] = recommender.item_vectors(torch.from_numpy(own[c])).detach()
        total = 0.0
        for sequence in sequences:
            contexts = recommender.contexts(vectors, torch.tensor([sequence[:-1]]))[0].detach()
            logits = contexts @ replaced.T / recommender.temperature
            total += float(logits.log_softmax(1)[torch.arange(3), torch.tensor(sequence[1:])].sum())
        whole[c] = total
    for item in range(12):
        rows = sampled.segment == item
        np.testing.assert_allclose(found[rows] - found[rows][0], whole[rows] - whole[rows][0], atol=2e-3)


def test_identity_reward(world):
    tokens, encoder, features, _, recommender, sampled = world
    found = IdentityReward(CandidateEncoder(encoder), recommender, features)(tokens, sampled)
    assert found.shape == (len(sampled),)
    assert (found < 0).all()
    whole = as_candidates(
        range(12), [range(a, b) for a, b in zip(tokens.cu_seqlens, tokens.cu_seqlens[1:], strict=False)]
    )
    sure = IdentityReward(CandidateEncoder(encoder), recommender, features)(tokens, whole)
    by_item = [found[sampled.segment == item].mean() for item in range(12)]
    assert (sure > by_item).mean() > 0.8  # the whole text says best which item it is


def test_coconsumption_reward_by_hand():
    tokens = RaggedTokens.from_lists([[1, 2, 1], [1, 3], [4, 5], [1, 5]])
    reward = CoConsumptionReward(tokens, [[0, 1], [0, 3], [2]])
    share = (4 + 0.5) / (5 + 1)  # of five touches four hold token 1
    expected = np.log((2 + 5 * share) / ((2 + 5) * share))
    np.testing.assert_allclose(reward.token_lift[[0, 2]], expected, rtol=1e-6)
    assert reward.token_lift[4] < reward.token_lift[3]
    assert (reward.token_lift[5:7] == 0).all()  # item 2 has no company
    found = reward(tokens, as_candidates([0, 0], [[0, 2], [0, 1]]))
    assert found[0] == pytest.approx(expected, rel=1e-6)  # the repeat counts once
    assert found[1] == pytest.approx(float(reward.token_lift[:2].sum()), rel=1e-6)


def test_weighted_reward_standardises(world):
    tokens, encoder, features, _, recommender, sampled = world
    one = IdentityReward(CandidateEncoder(encoder), recommender, features)

    class Scaled:
        fingerprint = "scaled"

        def __call__(self, tokens, candidates):
            return 1000 * one(tokens, candidates) + 7

    same = WeightedReward({"a": one})(tokens, sampled)
    scaled = WeightedReward({"a": Scaled()})(tokens, sampled)
    np.testing.assert_allclose(scaled - scaled[0], same - same[0], atol=1e-2)
    mean = cross_fitted([one, one])(tokens, sampled)
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
