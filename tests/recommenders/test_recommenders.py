from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import TEXTS, make_causal_lm
from tsporec.evaluation.task import Task
from tsporec.metrics import ndcg
from tsporec.recommenders.embedding import (
    EmbeddingConfig,
    EmbeddingRecommender,
    cut_windows,
    make_recommender,
    pad_histories,
)
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.recommenders.generative import GenerativeRecommender, PromptTemplate
from tsporec.tokens.ragged import RaggedTokens


def encode(tokenizer, texts=TEXTS) -> RaggedTokens:
    return RaggedTokens.from_lists(tokenizer(texts, add_special_tokens=False)["input_ids"])


def test_encoder_takes_the_mean_of_the_states_of_each_text(tokenizer, causal_lm, monkeypatch):
    monkeypatch.setattr("tsporec.recommenders.encoder._BATCH_TOKENS", 16)
    tokens = RaggedTokens.from_lists([*encode(tokenizer).to_lists(), [], [7], [8]])
    vectors = ItemEncoder(causal_lm).encode(tokens)
    for i, ids in enumerate(tokens.to_lists()):
        if not ids:
            assert not vectors[i].any()
            continue
        with torch.no_grad():
            states = causal_lm.model(torch.tensor([ids])).last_hidden_state[0]
        np.testing.assert_allclose(vectors[i], states.mean(0).numpy(), atol=1e-5)


def world(rng, items=40, groups=4, users=120):
    """Items of a few groups, told by their features; users who stay in theirs."""
    group = np.arange(items) % groups
    features = rng.normal(size=(items, 8)).astype(np.float32)
    features[np.arange(items), group] += 3
    sequences = [rng.choice(np.flatnonzero(group == u % groups), size=5, replace=False).tolist() for u in range(users)]
    return features, sequences, group


def test_embedding_recommender_learns_what_users_like(tmp_path):
    features, sequences, group = world(np.random.default_rng(0))
    config = EmbeddingConfig(width=16, eval_every=5, learning_rate=5e-3, temperature=0.2, dropout=0.1)
    recommender = make_recommender(8, config).fit(features, sequences[:100], sequences[100:])
    scores = recommender.scores(features, [s[:-1] for s in sequences[100:]])
    top = group[scores.argsort(axis=1)[:, -5:]]
    assert (top == np.arange(100, 120)[:, None] % 4).mean() > 0.8
    held_out = Task(RaggedTokens.from_lists([[]] * len(features)), [], [], [], []).next_items(sequences[100:])
    assert ndcg(held_out.ranks(recommender, features), 10).mean() > 0.3
    recommender.save(tmp_path)
    again = EmbeddingRecommender.load(tmp_path)
    np.testing.assert_array_equal(again.scores(features, [[0, 1]]), recommender.scores(features, [[0, 1]]))
    twin = make_recommender(8, config).fit(features, sequences[:100], sequences[100:])
    np.testing.assert_array_equal(twin.scores(features, [[0, 1]]), recommender.scores(features, [[0, 1]]))


def test_views_are_drawn_and_shapes_hold():
    features, sequences, _ = world(np.random.default_rng(1))
    views = np.stack([features, features + 0.1])
    recommender = make_recommender(8, EmbeddingConfig(width=16, eval_every=5, patience=1)).fit(
        views, sequences[:90], sequences[90:]
    )
    vectors = recommender.item_vectors(torch.from_numpy(features))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(40))
    contexts = recommender.user_contexts(vectors, [[1], [2, 3, 4]])
    padded = recommender.contexts(vectors, pad_histories([[2, 3, 4, 5]], 10))
    torch.testing.assert_close(contexts[1], padded[0, 2])  # a place does not see what comes later
    with pytest.raises(ValueError, match="at least two items"):
        recommender.fit(features, [[1]], sequences)
    with pytest.raises(ValueError, match="a history is empty"):
        recommender.scores(features, [[]])
    with pytest.raises(ValueError, match=r"found shape \[40, 7\]"):
        recommender.fit(features[:, :7], sequences[:90], sequences[90:])
    with pytest.raises(ValueError, match="with NaN or infinity"):
        recommender.fit(np.full_like(features, np.nan), sequences[:90], sequences[90:])


def test_the_seed_decides_and_the_global_random_state_stays():
    features, sequences, _ = world(np.random.default_rng(2))
    config = EmbeddingConfig(width=16, eval_every=5, patience=1, dropout=0.5, seed=3)
    found = []
    for state in (0, 1):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        recommender = make_recommender(8, config).fit(np.stack([features, -features]), sequences[:90], sequences[90:])
        assert torch.equal(torch.get_rng_state(), before)
        found.append(recommender.scores(features, [[0, 1]]))
    np.testing.assert_array_equal(*found)
    other = make_recommender(8, EmbeddingConfig(width=16, seed=4)).scores(features, [[0, 1]])
    assert not np.array_equal(make_recommender(8, config).scores(features, [[0, 1]]), other)


def test_windows_predict_every_item_once():
    for length in range(2, 12):
        windows = cut_windows([list(range(length))], 4)
        assert [item for w in windows for item in w[1:]] == list(range(1, length))


@pytest.fixture(scope="module")
def generative(tokenizer):
    titles = [text.split(",")[0] for text in TEXTS]
    template = PromptTemplate.build(encode(tokenizer), titles, tokenizer)
    return GenerativeRecommender(make_causal_lm(len(tokenizer)), template)


def test_prompts_spell_the_history_and_know_their_spans(generative, tokenizer):
    feature = generative.template.feature([2, 0], target=4)
    text = tokenizer.decode(feature["input_ids"])
    assert TEXTS[2] in text
    assert text.index(TEXTS[2]) < text.index(TEXTS[0])
    assert [tokenizer.decode(feature["input_ids"][a:b]) for a, b in feature["item_spans"]] == [TEXTS[2], TEXTS[0]]
    labels = [label for label in feature["labels"] if label != -100]
    assert tokenizer.decode(labels) == " " + TEXTS[4].split(",")[0] + "</s>"
    assert feature["input_ids"][-len(labels) :] == labels


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_candidates_are_ranked_by_exact_likelihood(generative, attention):
    generative.model.set_attn_implementation(attention)
    feature = generative.template.feature([1, 3])
    found = generative.candidate_log_likelihoods(feature, [0, 2, 5])
    for item, value in zip([0, 2, 5], found, strict=True):
        whole = generative.template.feature([1, 3], target=item)
        ids = torch.tensor([whole["input_ids"]])
        with torch.no_grad():
            log_p = generative.model(ids).logits[0].log_softmax(-1)
        title = generative.template.titles[item].tolist()
        start = ids.shape[1] - len(title)
        assert value == pytest.approx(sum(float(log_p[start + j - 1, t]) for j, t in enumerate(title)), abs=1e-3)
    assert generative.candidate_log_likelihoods(feature, []).shape == (0,)
    alone = generative.candidate_log_likelihoods(generative.template.feature([]), [4])
    np.testing.assert_allclose(generative.plain_log_likelihoods()[4], alone[0], rtol=1e-4)
