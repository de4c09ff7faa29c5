"""Every scorer through the one protocol: exact budgets, and scores that depend on the text alone."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import TEXTS, make_causal_lm, make_tokenizer, random_tokens
from tsporec.budget import Budget
from tsporec.scorers import SCORERS, Scorer, make_scorer
from tsporec.scorers.base import bind
from tsporec.scorers.cached import CachedScorer
from tsporec.selection import select
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens


@pytest.fixture(scope="module")
def scorers(tokenizer, wordpiece_tokenizer):
    lm = make_causal_lm(len(tokenizer))
    built = {
        "head": make_scorer("head"),
        "random": make_scorer("random", seed=3),
        "tfidf": make_scorer("tfidf").fit(encode(tokenizer)),
        "self_information": make_scorer("self_information", model=lm),
        "attention": make_scorer("attention", model=lm, layers=1),
        "centroid": make_scorer("centroid", model=lm),
        "llmlingua2": make_scorer(
            "llmlingua2", model=classifier(len(wordpiece_tokenizer)), tokenizer=wordpiece_tokenizer, window=9
        ).for_tokenizer(tokenizer),
        "selector": TokenSelector(SelectorConfig(gram_buckets=64, surface_buckets=64))
        .for_tokenizer(tokenizer)
        .fit(encode(tokenizer)),
    }
    assert set(SCORERS) | {"selector"} == set(built)
    return built


def classifier(vocab_size, labels=2):
    from transformers import BertConfig, BertForTokenClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        num_labels=labels,
    )  # fmt: skip
    return BertForTokenClassification(config).eval()


def encode(tokenizer, texts=TEXTS) -> RaggedTokens:
    return RaggedTokens.from_lists(tokenizer(texts, add_special_tokens=False)["input_ids"])


ROUNDING = 2**-12  # language scorers give 12 significant bits
NAMES = [*SCORERS, "selector"]
BUDGETS = st.one_of(
    st.builds(Budget, tokens=st.integers(1, 9)),
    st.builds(Budget, keep_ratio=st.floats(0.01, 1.0)),
    st.builds(Budget, total=st.integers(1, 40), minimum=st.integers(0, 3)),
)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32 - 1), budget=BUDGETS)
@settings(max_examples=12)
def test_budgets_are_exact_and_protected_tokens_stay(scorers, name, seed, budget):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, segments=5, vocab=300, longest=12)
    protected = rng.random(tokens.num_tokens) < 0.2
    scores = scorers[name].score(tokens)
    assert scores.dtype == np.float32
    k = budget.resolve(scores, tokens.cu_seqlens, None, protected)
    chosen = select(scorers[name], tokens, budget, protected=protected)
    segment = tokens.segment_ids()
    needed = np.bincount(segment[protected], minlength=len(tokens))
    expected = np.minimum(np.maximum(k, needed), tokens.lengths)
    np.testing.assert_array_equal(np.diff(chosen.cu_seqlens), expected)
    assert (np.diff(chosen.kept) > 0).all()
    assert set(np.flatnonzero(protected)) <= set(chosen.kept)
    np.testing.assert_array_equal(segment[chosen.kept], np.repeat(np.arange(len(tokens)), expected))


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8)
def test_scores_depend_on_the_text_alone(scorers, name, seed):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, segments=14, vocab=300, longest=14)
    scorer = scorers[name]
    scores = scorer.score(tokens)
    np.testing.assert_array_equal(scores, scorer.score(tokens))
    np.testing.assert_array_equal(scores, scorer.score(RaggedTokens.from_padded(*tokens.to_padded())))
    for i in rng.permutation(len(tokens))[:3]:
        part = slice(tokens.cu_seqlens[i], tokens.cu_seqlens[i + 1])
        np.testing.assert_array_equal(scores[part], scorer.score(tokens.take([i])))


@pytest.mark.parametrize("name", NAMES)
@given(
    seed=st.integers(0, 2**32 - 1),
    budget=st.one_of(
        st.builds(Budget, tokens=st.integers(1, 9)),
        st.builds(Budget, keep_ratio=st.integers(1, 20).map(lambda n: n / 20)),
    ),
)
@settings(max_examples=8)
def test_selection_is_the_same_alone_in_a_batch_and_padded(scorers, name, seed, budget):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, segments=6, vocab=300, longest=14)
    protected = rng.random(tokens.num_tokens) < 0.2
    chosen = select(scorers[name], tokens, budget, protected=protected)
    kept = chosen.apply(tokens).to_lists()
    for i, length in enumerate(tokens.lengths.tolist()):
        part = slice(tokens.cu_seqlens[i], tokens.cu_seqlens[i + 1])
        asked = budget.tokens if budget.tokens else -(-length * round(20 * budget.keep_ratio) // 20)
        assert len(kept[i]) == min(max(asked, protected[part].sum()), length)
        alone = select(scorers[name], tokens.take([i]), budget, protected=protected[part])
        assert alone.apply(tokens.take([i])).to_lists() == [kept[i]]
    for side in ("left", "right"):
        packed = RaggedTokens.from_padded(*tokens.to_padded(side=side))
        np.testing.assert_array_equal(select(scorers[name], packed, budget, protected=protected).kept, chosen.kept)


@pytest.mark.parametrize("name", ["self_information", "attention", "centroid"])
def test_language_model_scores_are_bit_equal_in_every_row(tokenizer, name):
    # Wide enough for blocked matrix products, whose edges could treat the rows of a batch differently.
    scorer = make_scorer(name, model=make_causal_lm(len(tokenizer), width=96))
    rng = np.random.default_rng(0)
    for length in (1, 2, 7, 16, 33, 48):
        tokens = RaggedTokens.from_lists(rng.integers(4, len(tokenizer), (7, length)).tolist())
        together = scorer.score(tokens).reshape(7, length)
        for i in range(7):
            np.testing.assert_array_equal(scorer.score(tokens.take([i])), together[i])


@pytest.mark.parametrize("name", NAMES)
def test_protocol(scorers, name, tokenizer):
    scorer = scorers[name]
    assert isinstance(scorer, Scorer)
    assert scorer.score(RaggedTokens.from_lists([])).shape == (0,)
    assert scorer.score(RaggedTokens.from_lists([[], []])).shape == (0,)
    assert len(scorer.fingerprint) == 32
    tokens = encode(tokenizer)
    scores = scorer.score(tokens)
    again = pickle.loads(pickle.dumps(scorer))  # as a spawned worker gets it
    assert again.fingerprint == scorer.fingerprint
    np.testing.assert_array_equal(again.score(tokens), scores)
    assert scorer.fit(encode(tokenizer)) is not None


def test_fingerprints_tell_scorers_apart(scorers, tokenizer):
    prints = {s.fingerprint for s in scorers.values()} | {make_scorer("random", seed=4).fingerprint}
    prints.add(make_scorer("tfidf").fit(encode(tokenizer, TEXTS[:3])).fingerprint)
    prints.add(make_scorer("centroid", model=make_causal_lm(len(tokenizer), seed=1)).fingerprint)
    assert len(prints) == len(scorers) + 3


def test_head_keeps_the_first():
    tokens = RaggedTokens.from_lists([[9, 8, 7], [6]])
    assert select(make_scorer("head"), tokens, Budget(tokens=2)).apply(tokens).to_lists() == [[9, 8], [6]]


def test_random_is_uniform_and_seeded():
    tokens = RaggedTokens.from_lists(np.arange(40000).reshape(400, 100) % 97)
    scores = make_scorer("random").score(tokens)
    assert abs(scores.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(scores, tokens.offsets())[0, 1]) < 0.02
    assert abs(np.corrcoef(scores, make_scorer("random", seed=1).score(tokens))[0, 1]) < 0.02


def test_tfidf_worked_example():
    corpus = RaggedTokens.from_lists([[1, 2, 1], [2, 3], [2]])
    scorer = make_scorer("tfidf").fit(corpus)
    idf = {1: np.log(4 / 2) + 1, 2: np.log(4 / 4) + 1, 3: np.log(4 / 2) + 1, 9: np.log(4) + 1}
    np.testing.assert_allclose(
        scorer.score(RaggedTokens.from_lists([[1, 2, 1, 3], [9]])), [2 * idf[1], idf[2], -1, idf[3], idf[9]], rtol=1e-6
    )
    with pytest.raises(ValueError, match=r"call scorer\.fit\(corpus\)"):
        make_scorer("tfidf").score(corpus)


def test_self_information_is_the_models_surprisal(tokenizer, causal_lm):
    ids = encode(tokenizer)[0].tolist()
    with torch.no_grad():
        logits = causal_lm(torch.tensor([[causal_lm.config.bos_token_id, *ids[:-1]]])).logits[0]
    expected = -logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
    found = make_scorer("self_information", model=causal_lm).score(RaggedTokens.from_lists([ids]))
    np.testing.assert_allclose(found, expected.numpy(), rtol=ROUNDING)


def test_self_information_without_a_beginning_of_sequence_token(tokenizer):
    lm = make_causal_lm(len(tokenizer))
    lm.config.bos_token_id = None
    tokens = RaggedTokens.from_lists([[9, 8, 7, 6], [5]])
    scores = make_scorer("self_information", model=lm).score(tokens)
    with torch.no_grad():
        logits = lm(torch.tensor([[9, 8, 7]])).logits[0]
    expected = -logits.log_softmax(-1)[torch.arange(3), torch.tensor([8, 7, 6])]
    uniform = np.log(len(tokenizer))
    np.testing.assert_allclose(scores, [uniform, *expected.tolist(), uniform], rtol=ROUNDING)


def test_models_come_from_folders_with_safetensors_only(tokenizer, wordpiece_tokenizer, tmp_path):
    lm = make_causal_lm(len(tokenizer))
    lm.save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    tokens = encode(tokenizer)
    loaded = make_scorer("centroid", model=tmp_path / "lm", layers=1).for_tokenizer(tokenizer)
    assert loaded.reader is None
    np.testing.assert_array_equal(loaded.score(tokens), make_scorer("centroid", model=lm, layers=1).score(tokens))
    model = classifier(len(wordpiece_tokenizer))
    model.save_pretrained(tmp_path / "classifier")
    wordpiece_tokenizer.save_pretrained(tmp_path / "classifier")
    loaded = make_scorer("llmlingua2", model=str(tmp_path / "classifier")).for_tokenizer(tokenizer)
    given = make_scorer("llmlingua2", model=model, tokenizer=wordpiece_tokenizer).for_tokenizer(tokenizer)
    np.testing.assert_array_equal(loaded.score(tokens), given.score(tokens))
    assert loaded.fingerprint == given.fingerprint
    weights = tmp_path / "lm" / "model.safetensors"
    weights.unlink()
    torch.save(lm.state_dict(), weights.with_name("pytorch_model.bin"))
    with pytest.raises(ValueError, match="weights as safetensors"):
        make_scorer("centroid", model=tmp_path / "lm")


@pytest.mark.parametrize("name", ["self_information", "attention", "centroid"])
def test_long_texts_are_read_in_windows(tokenizer, name):
    lm = make_causal_lm(len(tokenizer))
    scorer = make_scorer(name, model=lm, window=5)
    tokens = RaggedTokens.from_lists([list(range(10, 23)), [], [7, 8]])
    pieces = RaggedTokens.from_lists([[*range(10, 15)], [*range(15, 20)], [20, 21, 22], [7, 8]])
    np.testing.assert_array_equal(scorer.score(tokens), make_scorer(name, model=lm).score(pieces))
    assert scorer.fingerprint != make_scorer(name, model=lm).fingerprint
    beyond = RaggedTokens.from_lists([[5] * 600])  # the model has 512 positions
    assert np.isfinite(make_scorer("centroid", model=lm).score(beyond)).all()
    for window in (0, 512):
        with pytest.raises(ValueError, match=f"reads from 1 to 511 tokens of a text at once; found window={window}"):
            make_scorer(name, model=lm, window=window)


def test_attention_leaves_the_model_as_it_was(tokenizer):
    lm, tokens = make_causal_lm(len(tokenizer), layers=3), encode(tokenizer)
    make_scorer("attention", model=lm).score(tokens)
    pickle.dumps(lm)  # no hooks are left in it
    out = lm(torch.tensor([[5, 6]]), output_hidden_states=True)
    assert len(out.hidden_states) == 4
    # One that the user has hooked already keeps its hooks.
    make_scorer("attention", model=lm).score(tokens)
    assert len(lm(torch.tensor([[5, 6]]), output_hidden_states=True).hidden_states) == 4


def test_attention_is_found_in_other_architectures(tokenizer):
    import transformers

    size = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    configs = {
        "GPT2LMHeadModel": transformers.GPT2Config(n_positions=64, n_embd=32, n_layer=2, n_head=2, **size),
        "GPTNeoXForCausalLM": transformers.GPTNeoXConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **size
        ),
        "Qwen3ForCausalLM": transformers.Qwen3Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
            intermediate_size=64, **size,
        ),
    }  # fmt: skip
    tokens = encode(tokenizer, TEXTS[:1])
    for name, config in configs.items():
        model = getattr(transformers, name)(config).eval()
        scores = make_scorer("attention", model=model).score(tokens)
        model.set_attn_implementation("eager")
        with torch.no_grad():
            attentions = model(torch.tensor(tokens.ids[None].astype(np.int64)), output_attentions=True).attentions
        received = torch.stack(attentions).mean(dim=(0, 2))[0].sum(dim=0) / torch.arange(len(scores), 0, -1)
        np.testing.assert_allclose(scores, received.numpy(), rtol=ROUNDING)


def test_a_model_without_attention_is_refused(tokenizer):
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(ValueError, match=r"MambaForCausalLM shows no attention in layers \[0\]"):
        make_scorer("attention", model=model.eval()).score(encode(tokenizer, TEXTS[:1]))


def test_scores_are_the_same_in_a_spawned_process(scorers, tokenizer):
    tokens = encode(tokenizer)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = {name: pool.submit(scorer.score, tokens) for name, scorer in scorers.items()}
        for name, scorer in scorers.items():
            np.testing.assert_array_equal(found[name].result(), scorer.score(tokens), err_msg=name)


def test_attention_and_centroid_are_what_they_say(tokenizer, causal_lm):
    ids = torch.tensor([encode(tokenizer)[1].tolist()])
    length = ids.shape[1]
    lm = make_causal_lm(len(tokenizer))
    lm.set_attn_implementation("eager")
    with torch.no_grad():
        out = lm(ids, output_attentions=True, output_hidden_states=True)
    mean = torch.stack(out.attentions).mean(dim=(0, 2))[0]
    seen = torch.tensor([mean[t:, t].mean() for t in range(length)])
    tokens = RaggedTokens.from_lists(ids.numpy())
    np.testing.assert_allclose(make_scorer("attention", model=causal_lm).score(tokens), seen.numpy(), rtol=ROUNDING)
    assert causal_lm.config._attn_implementation != "eager"
    states = out.hidden_states[-1][0]
    likeness = torch.cosine_similarity(states, states.mean(0, keepdim=True))
    np.testing.assert_allclose(make_scorer("centroid", model=causal_lm).score(tokens), likeness.numpy(), atol=1e-4)


def test_another_vocabulary_is_read_by_offsets(tokenizer, wordpiece_tokenizer):
    lm = make_causal_lm(len(wordpiece_tokenizer))
    scorer = make_scorer("centroid", model=lm, tokenizer=wordpiece_tokenizer)
    same = scorer.for_tokenizer(wordpiece_tokenizer)
    assert same.reader is None
    other = scorer.for_tokenizer(tokenizer)
    tokens = encode(tokenizer)
    scores = other.score(tokens)
    assert np.isfinite(scores).all()
    # A whole word that is one token in both has the score of its twin.
    text = TEXTS[1]
    theirs = wordpiece_tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    own = same.score(RaggedTokens.from_lists([theirs["input_ids"]]))
    ours = scores[tokens.cu_seqlens[1] : tokens.cu_seqlens[2]]
    _, spans = read_pieces(tokenizer).text(tokens[1])
    twins = 0
    for value, (start, end) in zip(own, theirs["offset_mapping"], strict=True):
        for score, (s, e) in zip(ours, spans, strict=True):
            if e == end and s in (start, start - 1):
                assert score == pytest.approx(value, rel=1e-5)
                twins += 1
    assert twins > 3
    foreign = RaggedTokens.from_lists([[10**6]])
    with pytest.raises(ValueError, match="outside the centroid model's vocabulary"):
        scorer.score(foreign)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_pieces_spell_the_text(kind):
    tokenizer = make_tokenizer(kind)
    pieces = read_pieces(tokenizer)
    for text in [*TEXTS, "naïve 日本 🙂 é", ""]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        spelled, spans = pieces.text(ids)
        if kind == "bpe":
            assert spelled == text
        assert len(spans) == len(ids)
        assert all(0 <= s <= e <= len(spelled) for s, e in spans.tolist())
        known = [i for i in ids if not pieces.special[i]]
        if kind != "bpe" and len(known) == len(ids):
            assert spelled.lower().replace(" ", "") == tokenizer.decode(ids).lower().replace(" ", "")


def test_broken_bytes_keep_their_places(tokenizer):
    ids = tokenizer("🙂é", add_special_tokens=False)["input_ids"]
    text, spans = read_pieces(tokenizer).text(ids[1:])
    assert len(spans) == len(ids) - 1
    assert spans[-1, 1] == len(text)


def test_classifiers_are_checked_before_they_read(tokenizer, wordpiece_tokenizer):
    model = classifier(len(wordpiece_tokenizer))

    def make(**options):
        return make_scorer("llmlingua2", **{"model": model, "tokenizer": wordpiece_tokenizer, **options})

    with pytest.raises(ValueError, match="the labels drop and keep; found 3 labels"):
        make(model=classifier(len(wordpiece_tokenizer), labels=3))
    with pytest.raises(ValueError, match="reads from 1 to 512 tokens of a text at once; found window=513"):
        make(window=513)
    with pytest.raises(ValueError, match="reads with its own tokenizer"):
        make(tokenizer=None)
    with pytest.raises(ValueError, match="there is no such folder, and no such name on the Hub"):
        make(model="no/such/folder/here")
    with pytest.raises(ValueError, match=r"call for_tokenizer\(tokenizer\)"):
        make().score(encode(tokenizer))
    with pytest.raises(ValueError, match="gives no character offsets"):
        make(tokenizer=object())
    small = make(model=classifier(10)).for_tokenizer(tokenizer)
    with pytest.raises(ValueError, match="outside the llmlingua2 model's vocabulary of 10"):
        small.score(encode(tokenizer))
    scorer = make().for_tokenizer(tokenizer)
    long = RaggedTokens.from_lists([tokenizer(" ".join(TEXTS * 12), add_special_tokens=False)["input_ids"]])
    assert len(wordpiece_tokenizer(" ".join(TEXTS * 12))["input_ids"]) > 520
    scores = scorer.score(long)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.std() > 0


def test_classifier_reads_its_special_tokens(tokenizer):
    """Against the model called directly, with a tokenizer that puts special tokens around a text."""
    from tokenizers.processors import TemplateProcessing

    own = make_tokenizer("wordpiece")
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", own.bos_token_id), ("</s>", own.eos_token_id)]
    )
    model = classifier(len(own))
    scorer = make_scorer("llmlingua2", model=model, tokenizer=own)
    assert (scorer.before, scorer.after, scorer.window) == ([own.bos_token_id], [own.eos_token_id], 510)
    text = TEXTS[1]
    encoded = own(text, return_offsets_mapping=True)
    with torch.no_grad():
        direct = model(torch.tensor([encoded["input_ids"]])).logits[0].softmax(-1)[:, 1].numpy()
    bpe = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    scores = scorer.for_tokenizer(tokenizer).score(RaggedTokens.from_lists([bpe["input_ids"]]))
    by_character = np.full(len(text), np.nan)
    for (start, end), value in list(zip(encoded["offset_mapping"], direct, strict=True))[1:-1]:
        by_character[start:end] = value
    for (start, end), score in zip(bpe["offset_mapping"], scores, strict=True):
        assert score == pytest.approx(np.nanmean(by_character[start:end]), rel=ROUNDING)


def test_positions_of_roberta_start_after_padding():
    from transformers import RobertaConfig, RobertaForTokenClassification

    tokenizer = make_tokenizer("bpe")
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    scorer = make_scorer("llmlingua2", model=RobertaForTokenClassification(config), tokenizer=tokenizer)
    assert scorer.window == 32
    assert np.isfinite(scorer.for_tokenizer(tokenizer).score(RaggedTokens.from_lists([[*range(10, 90)]]))).all()


def test_fingerprints_see_the_model_and_not_how_it_is_run(tokenizer):
    lm = make_causal_lm(len(tokenizer), width=128)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = make_scorer("centroid", model=lm).fingerprint
        torch.set_num_threads(2)
        assert make_scorer("centroid", model=lm).fingerprint == one
    finally:
        torch.set_num_threads(threads)
    lm.config._name_or_path = "elsewhere"
    lm.set_attn_implementation("eager")
    assert make_scorer("centroid", model=lm).fingerprint == one
    lm.config.bos_token_id = None
    assert make_scorer("centroid", model=lm).fingerprint != one
    lm.config.bos_token_id = 1
    assert make_scorer("centroid", model=lm).fingerprint == one
    with torch.no_grad():
        lm.model.embed_tokens.weight.copy_(lm.model.embed_tokens.weight.flip(0))
    assert make_scorer("centroid", model=lm).fingerprint != one


def test_a_text_read_with_two_tokenizers_is_named_by_both(tokenizer, wordpiece_tokenizer, unigram_tokenizer):
    lm = make_causal_lm(max(len(wordpiece_tokenizer), len(unigram_tokenizer)))
    prints = {
        make_scorer("centroid", model=lm, tokenizer=own).for_tokenizer(tokenizer).fingerprint
        for own in (wordpiece_tokenizer, unigram_tokenizer)
    }
    assert len(prints) == 2


def test_reading_scorers_say_what_they_are_bound_to(tokenizer, wordpiece_tokenizer, causal_lm):
    scorer = make_scorer("centroid", model=causal_lm)
    assert scorer.tokenizer_fingerprint is None
    bound = scorer.for_tokenizer(tokenizer)
    assert bound.tokenizer_fingerprint == tokenizer_fingerprint(tokenizer)
    assert bind(bound, tokenizer) is bound
    with pytest.raises(ValueError, match="bound to another tokenizer"):
        bind(bound, wordpiece_tokenizer)


def test_negative_ids_are_refused(causal_lm):
    tfidf = make_scorer("tfidf").fit(RaggedTokens.from_lists([[1, 2]]))
    for act in (tfidf.score, make_scorer("tfidf").fit):
        with pytest.raises(ValueError, match="token id -100 is outside the tokenizer's vocabulary"):
            act(RaggedTokens.from_lists([[5, -100]]))
    with pytest.raises(ValueError, match="token id -100 is outside"):
        make_scorer("centroid", model=causal_lm).score(RaggedTokens.from_lists([[5, -100]]))


def test_cache_remembers_and_forgets(tokenizer):
    class Counting:
        calls = 0

        def score(self, tokens):
            self.calls += len(tokens)
            return tokens.ids.astype(np.float32)

    counting = Counting()
    cached = CachedScorer(counting, max_tokens=8)
    tokens = RaggedTokens.from_lists([[1, 2], [3], [1, 2], []])
    np.testing.assert_array_equal(cached.score(tokens), tokens.ids)
    assert counting.calls == 3
    np.testing.assert_array_equal(cached.score(tokens), tokens.ids)
    assert counting.calls == 3
    cached.score(RaggedTokens.from_lists([[7] * 7]))
    cached.score(RaggedTokens.from_lists([[1, 2]]))
    assert counting.calls == 5
    long = RaggedTokens.from_lists([[4] * 20])
    np.testing.assert_array_equal(cached.score(long), long.ids)
    again = pickle.loads(pickle.dumps(CachedScorer(make_scorer("head"))))
    assert again.score(tokens).tolist() == [0, -1, 0, 0, -1]
    assert again.fingerprint == make_scorer("head").fingerprint


def test_cache_owns_its_scores_and_refuses_a_wrong_shape():
    cached = CachedScorer(make_scorer("head"))
    tokens = RaggedTokens.from_lists([[1, 2], [3]])
    for _ in range(2):
        scores = cached.score(tokens)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, [0, -1, 0])
        scores[:] = 9  # the caller's own: what is remembered stays

    class Wrong:
        def score(self, tokens):
            return np.zeros(tokens.num_tokens + 1, np.float32)

    wrong = CachedScorer(Wrong())
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Wrong\.score returned shape \(3,\) for 2 tokens"):
            wrong.score(RaggedTokens.from_lists([[1, 2]]))


@given(seed=st.integers(0, 2**32 - 1), max_tokens=st.integers(0, 60))
def test_cached_scores_are_the_scorers_own(seed, max_tokens):
    rng = np.random.default_rng(seed)
    scorer = make_scorer("random", seed=1)
    cached = CachedScorer(scorer, max_tokens)
    for _ in range(6):
        tokens = random_tokens(rng, segments=8, vocab=2, longest=4)  # few different texts: hits, repeats, evictions
        np.testing.assert_array_equal(cached.score(tokens), scorer.score(tokens))
        assert sum(map(len, cached._scores.values())) == 4 * cached._tokens <= 4 * max_tokens


def test_unknown_scorer_and_wrong_shape():
    with pytest.raises(ValueError, match="there is no scorer 'best'; expected one of head"):
        make_scorer("best")

    class Wrong:
        def score(self, tokens):
            return np.zeros(1, np.float32)

    with pytest.raises(ValueError, match=r"Wrong\.score returned shape \(1,\) for 2 tokens"):
        select(Wrong(), RaggedTokens.from_lists([[1, 2]]), Budget(tokens=1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_scores_that_are_no_numbers_are_refused(bad):
    class Mine:
        def score(self, tokens):
            return np.array([0, 1, 2, bad, 4, bad])

    tokens = RaggedTokens.from_lists([[1, 2], [], [3, 4], [5, 6]])
    found = r"Mine\.score returned 2 scores of 6 that are NaN or infinite, the first in text 2 of 4 .*, at its token 1"
    with pytest.raises(ValueError, match=found):
        select(Mine(), tokens, 1)


@pytest.mark.parametrize("scores", [torch.zeros(2, requires_grad=True), ["a", "b"], [[1], [2, 3]]])
def test_scores_that_are_no_array_are_refused(scores):
    class Mine:
        def score(self, tokens):
            return scores

    with pytest.raises(TypeError, match=r"Mine\.score returned \w+, which is no array of numbers"):
        select(Mine(), RaggedTokens.from_lists([[1, 2]]), 1)
