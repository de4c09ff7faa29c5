from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEXTS
from tsporec.budget import Budget
from tsporec.collators.selector import SelectorCollator
from tsporec.scorers import make_scorer
from tsporec.selector.model import TokenSelector
from tsporec.tokenizer import wrap_tokenizer


@pytest.fixture(scope="module")
def fast():
    """A WordPiece tokenizer that puts <s> before and </s> behind a text and between the two of a pair."""
    from tokenizers.processors import TemplateProcessing

    from tests.conftest import make_tokenizer

    tokenizer = make_tokenizer("wordpiece")
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture(scope="module")
def slow():
    from transformers import PreTrainedTokenizer

    class Words(PreTrainedTokenizer):
        """A Python tokenizer: a word a token, by hash."""

        def __init__(self, **kwargs):
            self.words = ["<pad>", "<s>", "</s>", "<unk>", *sorted({w for t in TEXTS for w in t.split()})]
            super().__init__(pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", **kwargs)

        @property
        def vocab_size(self):
            return len(self.words)

        def get_vocab(self):
            return {w: i for i, w in enumerate(self.words)}

        def _tokenize(self, text, **kwargs):
            return text.split()

        def _convert_token_to_id(self, token):
            return self.words.index(token) if token in self.words else 3

        def _convert_id_to_token(self, index):
            return self.words[index]

        def build_inputs_with_special_tokens(self, a, b=None):
            return [1, *a, 2] if b is None else [1, *a, 2, *b, 2]

        def get_special_tokens_mask(self, a, b=None, already_has_special_tokens=False):
            return [1, *[0] * len(a), 1] if b is None else [1, *[0] * len(a), 1, *[0] * len(b), 1]

        def create_token_type_ids_from_sequences(self, a, b=None):
            return [0] * (len(a) + 2) + ([1] * (len(b) + 1) if b is not None else [])

    return Words()


@pytest.fixture(scope="module", params=["fast", "slow"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def plain(batch):
    return {k: v.tolist() if hasattr(v, "tolist") else v for k, v in batch.items()}


CALLS = [
    {},
    {"padding": True},
    {"padding": "max_length", "max_length": 64, "truncation": True},
    {"return_tensors": "pt", "padding": True, "pad_to_multiple_of": 8},
    {"return_tensors": "np", "padding": True},
    {"add_special_tokens": False, "return_special_tokens_mask": True},
    {"return_length": True},
]


@pytest.mark.parametrize("options", CALLS)
@pytest.mark.parametrize("budget", [None, Budget(tokens=500)])
def test_it_is_the_tokenizer_where_nothing_is_cut(tokenizer, options, budget):
    wrapped = wrap_tokenizer(tokenizer, make_scorer("random"), budget)
    inputs = [(TEXTS,), (TEXTS[0],), (TEXTS[:2], TEXTS[2:4]), (TEXTS[0], TEXTS[1])]
    for given_ in inputs:
        if options.get("padding") is None and options.get("return_tensors"):
            continue
        assert plain(wrapped(*given_, **options)) == plain(tokenizer(*given_, **options))
    assert wrapped.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    assert wrapped.decode(wrapped.encode(TEXTS[0])) == tokenizer.decode(tokenizer.encode(TEXTS[0]))
    assert isinstance(wrapped, type(tokenizer))
    assert type(tokenizer).__name__ == type(wrapped).__name__
    assert len(wrapped) == len(tokenizer)


@given(m=st.integers(6, 30), seed=st.integers(0, 5))
@pytest.mark.parametrize("padding", [False, True, "max_length"])
@pytest.mark.parametrize("strategy", [True, "only_first", "only_second", "longest_first"])
@pytest.mark.parametrize("pair", [False, True])
def test_truncation_leaves_as_many_tokens(tokenizer, m, seed, padding, strategy, pair):
    wrapped = wrap_tokenizer(tokenizer, make_scorer("random", seed=seed))
    given_ = (TEXTS[:3], TEXTS[3:]) if pair else (TEXTS,)
    options = {"truncation": strategy, "max_length": m, "padding": padding, "return_special_tokens_mask": True}
    if strategy == "only_second" and not pair:
        return
    if strategy in ("only_first", "only_second") and pair:
        part = given_[1] if strategy == "only_first" else given_[0]
        if max(len(x) for x in tokenizer(part, add_special_tokens=False)["input_ids"]) + 4 >= m:
            return
    cut, whole, head = wrapped(*given_, **options), tokenizer(*given_), tokenizer(*given_, **options)
    assert list(cut) == list(head)
    for name in cut:
        assert [len(row) for row in cut[name]] == [len(row) for row in head[name]]
    assert cut["attention_mask"] == head["attention_mask"]
    if "token_type_ids" in cut and pair:
        assert cut["token_type_ids"] == head["token_type_ids"]
    for row, full in zip(cut["input_ids"], whole["input_ids"], strict=True):
        walk = iter(full)
        assert all(i in walk for i in row if i != 0)
        assert row.count(1) == full.count(1)
        assert row.count(2) == full.count(2)


@given(k=st.integers(1, 12))
def test_a_budget_cuts_every_text(tokenizer, k):
    wrapped = wrap_tokenizer(tokenizer, make_scorer("head"), Budget(tokens=k))
    whole = tokenizer(TEXTS)["input_ids"]
    for row, full in zip(wrapped(TEXTS)["input_ids"], whole, strict=True):
        assert row == [*full[: min(k + 1, len(full) - 1)], full[-1]]
    assert wrapped.encode(TEXTS[0]) == wrapped(TEXTS[0])["input_ids"] == wrapped(TEXTS)["input_ids"][0]
    assert len(wrapped(TEXTS[0], truncation=True, max_length=5)["input_ids"]) == min(5, k + 2)
    pair = wrapped(TEXTS[0], TEXTS[1], return_tensors="np")
    assert pair["input_ids"].shape[0] == 1


def test_offsets_go_with_their_tokens(fast):
    wrapped = wrap_tokenizer(fast, make_scorer("random"), Budget(tokens=6))
    for side in ("left", "right"):
        cut = wrapped(TEXTS, return_offsets_mapping=True, padding="max_length", max_length=10, padding_side=side)
        whole = fast(TEXTS, return_offsets_mapping=True)
        for i in range(len(TEXTS)):
            known = set(zip(whole["input_ids"][i], whole["offset_mapping"][i], strict=True))
            assert len(cut["offset_mapping"][i]) == len(cut["input_ids"][i]) == 10
            assert set(zip(cut["input_ids"][i], cut["offset_mapping"][i], strict=True)) <= known | {(0, (0, 0))}


def test_it_pickles_and_saves_as_the_tokenizer_it_wraps(tokenizer, fast, tmp_path):
    from transformers import AutoTokenizer

    wrapped = wrap_tokenizer(fast, make_scorer("random"), Budget(tokens=6))
    again = pickle.loads(pickle.dumps(wrapped))
    assert again(TEXTS)["input_ids"] == wrapped(TEXTS)["input_ids"]
    wrapped.save_pretrained(tmp_path / "wrapped")
    fast.save_pretrained(tmp_path / "plain")
    names = sorted(p.name for p in (tmp_path / "plain").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "wrapped").iterdir())
    for name in names:
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "wrapped" / name).read_bytes()
    reloaded = AutoTokenizer.from_pretrained(tmp_path / "wrapped")
    assert not type(reloaded).__module__.startswith("tsporec")
    assert reloaded(TEXTS)["input_ids"] == fast(TEXTS)["input_ids"]
    twice = wrap_tokenizer(wrapped, make_scorer("random"), Budget(tokens=6))
    assert twice(TEXTS)["input_ids"] == wrapped(TEXTS)["input_ids"]
    assert fast(TEXTS)["input_ids"] != wrapped(TEXTS)["input_ids"]


def test_chat_templates_keep_their_special_tokens(fast):
    chat = copy.deepcopy(fast)
    chat.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|end|>"]})
    chat.chat_template = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"
    messages = [{"role": "user", "content": text} for text in TEXTS]
    whole = chat.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    wrapped = wrap_tokenizer(chat, make_scorer("random"), Budget(tokens=20))
    cut = wrapped.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    marks = chat.convert_tokens_to_ids(["<|user|>", "<|end|>"])
    assert len(cut) == 20 < len(whole)
    assert [i for i in cut if i in marks] == [i for i in whole if i in marks]


@pytest.fixture(scope="module")
def marked(fast):
    chat = copy.deepcopy(fast)
    chat.add_special_tokens({"additional_special_tokens": ["<item>", "</item>"]})
    return chat


@given(k=st.integers(1, 8), chosen=st.lists(st.sampled_from(TEXTS), max_size=4))
@pytest.mark.parametrize("granularity", ["token", "word"])
def test_spans_are_cut_as_a_collator_cuts_them(marked, k, chosen, granularity):
    marks = tuple(marked.convert_tokens_to_ids(["<item>", "</item>"]))
    options = {"spans": marks, "granularity": granularity}
    collator = SelectorCollator(list, make_scorer("random"), k, tokenizer=marked, **options)
    wrapped = wrap_tokenizer(marked, make_scorer("random"), k, **options)
    texts = ["black ink " + "".join(f"<item>{text}</item>" for text in chosen) + " labels", *TEXTS[:2]]
    features = [{"input_ids": ids} for ids in marked(texts)["input_ids"]]
    expected = [feature["input_ids"] for feature in collator(features)]
    assert wrapped(texts)["input_ids"] == expected
    assert [wrapped.encode(text) for text in texts] == expected
    assert pickle.loads(pickle.dumps(wrapped))(texts)["input_ids"] == expected
    pair = wrapped(texts[0], texts[1])["input_ids"]
    assert pair == [*expected[0], *expected[1][1:]]


def test_markers_in_messages_are_cut(marked):
    chat = copy.deepcopy(marked)
    chat.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    marks = tuple(chat.convert_tokens_to_ids(["<item>", "</item>"]))
    wrapped = wrap_tokenizer(chat, make_scorer("random"), 3, spans=marks)
    asked = "black ink " + "".join(f"<item>{text}</item>" for text in TEXTS)
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": "labels"}]
    options = {"tokenize": True, "return_dict": True}
    whole = chat.apply_chat_template(messages, **options)["input_ids"]
    (cut,) = SelectorCollator(list, make_scorer("random"), 3, spans=marks, tokenizer=chat)([{"input_ids": whole}])
    assert wrapped.apply_chat_template(messages, **options)["input_ids"] == cut["input_ids"] != whole
    with pytest.raises(ValueError, match="char_to_token"):  # the page says so
        wrapped.apply_chat_template(messages, **options, return_assistant_tokens_mask=True)


def test_spans_give_way_and_the_rest_stays(marked):
    marks = tuple(marked.convert_tokens_to_ids(["<item>", "</item>"]))
    text = "black ink " + "".join(f"<item>{text}</item>" for text in TEXTS) + " labels for printers"
    whole = marked(text)["input_ids"]
    for wrapped in (wrap_tokenizer(marked, make_scorer("random"), k, spans=marks) for k in (None, 7)):
        for limit in range(26, 60):
            cut = wrapped(text, truncation=True, max_length=limit)
            assert limit - len(TEXTS) < len(cut["input_ids"]) <= limit or wrapped(text)["input_ids"] == cut["input_ids"]
            assert len(cut["attention_mask"]) == len(cut["input_ids"])
            assert cut["input_ids"][-4:] == whole[-4:]
            assert [i for i in cut["input_ids"] if i in marks] == [*marks] * len(TEXTS)
        with pytest.raises(ValueError, match="max_length leaves 0 tokens for 6 spans"):
            wrapped(text, truncation=True, max_length=12)
    with pytest.raises(ValueError, match="leave out keep_last and prompts"):
        wrap_tokenizer(marked, make_scorer("head"), spans=marks, keep_last=3)


def test_faults():
    with pytest.raises(ValueError, match="expected a Hugging Face tokenizer"):
        wrap_tokenizer(object(), make_scorer("head"))


def test_what_a_text_keeps_does_not_depend_on_its_batch(fast):
    wrapped = wrap_tokenizer(fast, make_scorer("random"))
    together = wrapped(TEXTS, truncation=True, max_length=9)["input_ids"]
    assert together == [wrapped(t, truncation=True, max_length=9)["input_ids"] for t in TEXTS]
    assert np.all([len(row) <= 9 for row in together])


def test_the_words_of_a_text_are_one_text(tokenizer):
    wrapped, words = wrap_tokenizer(tokenizer, make_scorer("random")), TEXTS[0].split()
    options = {"is_split_into_words": True, "truncation": True, "max_length": 6}
    cut = wrapped(words, **options)
    assert {name: [values] for name, values in cut.items()} == dict(wrapped([words], **options))
    assert wrapped.encode(words, **options) == cut["input_ids"]
    assert cut["input_ids"] != tokenizer(words, **options)["input_ids"]
    assert len(cut["input_ids"]) == 6


def test_targets_are_the_tokenizers_own(fast):
    wrapped = wrap_tokenizer(fast, make_scorer("random"), Budget(tokens=6))
    for options in ({}, {"truncation": True, "max_length": 5}):
        cut, head = (tok(TEXTS[:2], text_target=TEXTS[2:4], **options) for tok in (wrapped, fast))
        assert list(cut) == list(head)
        assert cut["labels"] == head["labels"]
        assert cut["input_ids"] == wrapped(TEXTS[:2], **options)["input_ids"]


def test_positional_arguments_are_cut_as_named_ones(fast):
    wrapped = wrap_tokenizer(fast, make_scorer("random"))
    named = wrapped(TEXTS, truncation=True, max_length=6)
    assert wrapped(TEXTS, None, None, None, True, False, True, 6)["input_ids"] == named["input_ids"]
    assert wrapped.encode(TEXTS[0], None, True, False, True, 6) == named["input_ids"][0]


def test_a_list_of_two_texts_is_a_pair(fast):
    wrapped = wrap_tokenizer(fast, make_scorer("random"), 3)
    assert wrapped([[TEXTS[0], TEXTS[1]]])["input_ids"] == wrapped([(TEXTS[0], TEXTS[1])])["input_ids"]


def test_calls_of_transformers_4_are_cut(fast):
    wrapped = wrap_tokenizer(fast, make_scorer("random"), 6)
    assert wrapped.encode_plus(TEXTS[0])["input_ids"] == wrapped(TEXTS[0])["input_ids"]
    assert wrapped.batch_encode_plus(TEXTS)["input_ids"] == wrapped(TEXTS)["input_ids"]


def test_prompts_are_kept(tokenizer):
    prompt = "Self-adhesive labels for "
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    wrapped = wrap_tokenizer(tokenizer, make_scorer("random"), prompts=[prompt, "HP"])
    texts = [prompt + text for text in TEXTS] + TEXTS
    cut = wrapped(texts, truncation=True, max_length=len(asked) + 4)["input_ids"]
    free = wrap_tokenizer(tokenizer, make_scorer("random"))(texts, truncation=True, max_length=len(asked) + 4)
    for row in cut[: len(TEXTS)]:
        assert row[1 : 1 + len(asked)] == asked
    assert cut != free["input_ids"]
    short = {"truncation": True, "max_length": 9}
    assert copy.deepcopy(wrapped)(texts, **short) == wrapped(texts, **short)
    assert all(len(row) <= 5 for row in wrapped(texts, truncation=True, max_length=5)["input_ids"])


def test_the_selector_is_a_name_and_is_bound_to_this_tokenizer_alone(fast, slow):
    wrapped = wrap_tokenizer(fast, "tsporec/base", 6)
    bound = TokenSelector.from_pretrained().for_tokenizer(fast)
    assert wrapped(TEXTS)["input_ids"] == wrap_tokenizer(fast, bound, 6)(TEXTS)["input_ids"]
    with pytest.raises(ValueError, match="is bound to another tokenizer"):
        wrap_tokenizer(slow, bound)
    with pytest.raises(ValueError, match=r"a Budget or a whole number of tokens; found 2\.5"):
        wrap_tokenizer(fast, bound, 2.5)
