from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizer

from tests.conftest import TEXTS
from tsporec.budget import Budget
from tsporec.data.items import Item
from tsporec.scorers import make_scorer
from tsporec.selector.compress_text import compress_ids, compress_text
from tsporec.selector.model import TokenSelector
from tsporec.tokenizer import wrap_tokenizer
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens
from tsporec.tokens.words import words_of

any_text = st.one_of(st.sampled_from([*TEXTS, "naïve 日本 🙂 é"]), st.text(max_size=30))


@pytest.fixture(scope="module", params=["tokenizer", "wordpiece_tokenizer", "unigram_tokenizer"])
def each_tokenizer(request):
    return request.getfixturevalue(request.param)


def is_subsequence(part, whole):
    walk = iter(whole)
    return all(x in walk for x in part)


def shortest_word(tokenizer, text):
    tokens = RaggedTokens.from_lists(tokenizer([text], add_special_tokens=False)["input_ids"])
    return min(np.bincount(words_of(tokens, read_pieces(tokenizer))), default=0)


@given(text=any_text, k=st.integers(1, 30))
def test_words_stay_whole_and_in_order(tokenizer, text, k):
    text = text.replace("&", "")
    words = text.split()
    kept = compress_text(make_scorer("random"), tokenizer, text, Budget(tokens=k)).split()
    whole = shortest_word(tokenizer, text) <= k
    if whole and not any("\u3040" <= c <= "\u9fff" or c >= "\uf900" for c in text):
        assert is_subsequence(kept, words)
    assert is_subsequence("".join(kept), text)
    assert kept or not words or not whole


@given(text=any_text, k=st.integers(1, 30))
def test_ids_are_the_tokenizers_own_and_no_character_is_split(each_tokenizer, text, k):
    text = text.replace("&", "")
    ids = each_tokenizer(text, add_special_tokens=False)["input_ids"]
    kept = compress_ids(make_scorer("random"), each_tokenizer, text, Budget(tokens=k))
    assert is_subsequence(kept, ids)
    assert bool(kept) == bool(ids)
    if "\ufffd" not in text and shortest_word(each_tokenizer, text) <= k:
        assert "\ufffd" not in each_tokenizer.decode(kept)
    exact = compress_ids(make_scorer("random"), each_tokenizer, text, Budget(tokens=k), "token")
    assert is_subsequence(exact, ids)
    assert len(exact) == min(k, len(ids))


@given(text=any_text, k=st.integers(1, 30))
def test_no_more_tokens_are_kept_than_the_budget(tokenizer, text, k):
    kept = compress_ids(make_scorer("random"), tokenizer, text, Budget(tokens=k))
    assert len(kept) <= k


def test_a_budget_that_holds_all_keeps_all(tokenizer):
    for text in [*TEXTS, "naïve 日本 🙂 é", "日本のペン, black 墨"]:
        assert compress_text(make_scorer("head"), tokenizer, text, Budget(keep_ratio=1.0)) == " ".join(text.split())
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert compress_ids(make_scorer("head"), tokenizer, text, Budget(keep_ratio=1.0)) == ids
        assert compress_text(make_scorer("head"), tokenizer, text, Budget(keep_ratio=1.0), "token") == text
    assert compress_text(make_scorer("head"), tokenizer, "", Budget(tokens=3)) == ""
    assert compress_ids(make_scorer("head"), tokenizer, "", Budget(tokens=3), "token") == []


def test_text_without_spaces_is_cut_between_characters(tokenizer):
    text = "日本のペンと紙"  # three bytes a character, a token each
    short = compress_text(make_scorer("random"), tokenizer, text, Budget(tokens=9))
    assert len(short) == 3
    assert is_subsequence(short, text)
    assert len(compress_ids(make_scorer("random"), tokenizer, text, Budget(tokens=10))) == 9
    # The best tokens alone are exactly as many, and some character is left without a byte.
    assert len(compress_ids(make_scorer("random"), tokenizer, text, Budget(tokens=10), "token")) == 10
    assert "\ufffd" in compress_text(make_scorer("random"), tokenizer, text, Budget(tokens=10), "token")


def test_special_tokens_stay(tokenizer):
    chat = copy.deepcopy(tokenizer)
    chat.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|end|>"]})
    text = f"<|user|>{TEXTS[0]}<|end|> <|user|>{TEXTS[1]}<|end|>"
    marks = chat.convert_tokens_to_ids(["<|user|>", "<|end|>"])
    for granularity in ("word", "token"):
        ids = compress_ids(make_scorer("random"), chat, text, Budget(tokens=12), granularity)
        assert [i for i in ids if i in marks] == [*marks, *marks]
        assert len(ids) <= 12
        short = compress_text(make_scorer("random"), chat, text, Budget(tokens=12), granularity)
        assert is_subsequence(["<|user|>", "<|end|>"], [short[:8], short[-7:]])
        assert short.count("<|end|>") == short.count("<|user|>") == 2
    assert compress_text(make_scorer("head"), chat, text, Budget(keep_ratio=1.0)) == text


def test_the_best_words_are_kept(tokenizer):
    ids = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    selector = TokenSelector().for_tokenizer(tokenizer).fit(RaggedTokens.from_lists(ids))
    short = selector.compress_text(TEXTS[0], Budget(tokens=8), tokenizer)
    assert 0 < len(short.split()) < len(TEXTS[0].split())
    assert short == selector.compress_text(TEXTS[0], Budget(tokens=8), tokenizer)
    kept = selector.compress_ids(TEXTS[0], Budget(tokens=8), tokenizer)
    assert tokenizer.decode(kept).split() == short.split()
    assert np.array_equal(selector.compress_ids(TEXTS[0], Budget(keep_ratio=1.0), tokenizer, "token"), ids[0])


def test_a_list_of_texts_is_each_text(each_tokenizer):
    texts = [*TEXTS, "", "naïve 日本 🙂 é"]
    for granularity in ("word", "token"):
        for budget in (3, Budget(keep_ratio=0.4), Budget(total=5)):
            for compress in (compress_text, compress_ids):
                together = compress(make_scorer("random"), each_tokenizer, texts, budget, granularity)
                alone = [compress(make_scorer("random"), each_tokenizer, t, budget, granularity) for t in texts]
                assert together == alone
    assert compress_text(make_scorer("head"), each_tokenizer, [], 3) == []


def test_words_are_spelled_as_in_the_text(wordpiece_tokenizer):
    text = "Gel pen\U0001f58a don't 0.5mm (12) $3.99 PEN-300x 蓝色中性笔"  # of which WordPiece knows little
    assert compress_text(make_scorer("head"), wordpiece_tokenizer, text, Budget(keep_ratio=1.0)) == text


@pytest.mark.parametrize(
    "text", ["ปากกาเจลสีน้ำเงิน", "ປາກກາສີຟ້າ", "ប៊ិចពណ៌ខៀវ", "ရုံးသုံးအပြာ", "ㄅㄆㄇㄈㄉㄊㄋㄌ", "ＧＥＬＰＥＮ０．５", "ｼﾞｪﾙﾎﾞｰﾙﾍﾟﾝ"]
)
def test_scripts_without_spaces_obey_the_budget(tokenizer, text):
    kept = compress_ids(make_scorer("random"), tokenizer, text * 5, 24)
    assert 12 < len(kept) <= 24
    assert "\ufffd" not in tokenizer.decode(kept)


@pytest.mark.parametrize(
    "text", ["नमस्तेदुनिया", "👩‍👩‍👧🖊️👍🏽🇩🇪🇫🇷", "\u1112\u1161\u11ab\u1100\u1173\u11af", "ꦲꦏ꧀ꦱꦫ", "cafe\u0301" * 9]
)
def test_a_word_that_does_not_fit_gives_whole_characters(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    tokens = RaggedTokens.from_lists([ids])
    clusters = words_of(tokens, read_pieces(tokenizer), clusters=True)
    for k in range(1, len(ids)):
        for seed in range(3):
            kept = compress_ids(make_scorer("random", seed=seed), tokenizer, text, k)
            assert 0 < len(kept) <= k
            if k >= np.bincount(clusters).max():
                short = compress_text(make_scorer("random", seed=seed), tokenizer, text, k)
                assert "\ufffd" not in short
                assert tokenizer.decode(kept) == short


def test_a_wrapped_tokenizer_is_asked_for_the_whole_text(tokenizer):
    wrapped = wrap_tokenizer(tokenizer, make_scorer("head"), 2)
    assert compress_text(make_scorer("head"), wrapped, TEXTS[0], Budget(keep_ratio=1.0)) == TEXTS[0]


def test_special_tokens_of_a_slow_tokenizer_are_spelled():
    class Slow(PreTrainedTokenizer):
        words = ("<unk>", "<s>", "▁gel", "▁pen")

        def get_vocab(self):
            return {word: i for i, word in enumerate(self.words)}

        vocab_size = property(lambda self: len(self.words))

        def _tokenize(self, text, **kwargs):
            return [f"▁{word}" for word in text.split()]

        def _convert_token_to_id(self, token):
            return self.words.index(token) if token in self.words else 0

        def _convert_id_to_token(self, index):
            return self.words[index]

    slow = Slow(unk_token="<unk>", bos_token="<s>")
    assert compress_text(make_scorer("head"), slow, "<s> gel pen", 2) == "<s> gel"
    assert compress_text(make_scorer("head"), slow, "gel <s> pen <s> <s> gel", 6) == "gel<s> pen<s><s> gel"


@pytest.mark.parametrize("text", [5, ["gel", None], "gel \ud800 pen"])
def test_what_is_no_text_is_refused(tokenizer, text):
    with pytest.raises(ValueError, match=r"expected a text or a list of texts|is no valid Unicode"):
        compress_text(make_scorer("head"), tokenizer, text, 2)


def test_a_word_that_does_not_fit_gives_its_best_tokens(tokenizer):
    text = "retractable"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert compress_ids(make_scorer("head"), tokenizer, text, len(ids) - 1) == ids[:-1]
    assert text.startswith(compress_text(make_scorer("head"), tokenizer, text, len(ids) - 1))
    assert compress_text(make_scorer("head"), tokenizer, "\U0001f642", 2) == "\U0001f642", "once, for two of its bytes"


def test_entities_are_decoded_and_items_are_texts(each_tokenizer):
    whole = Budget(keep_ratio=1.0)
    raw, text = "AT&amp;amp;T 210 Corded &quot;Phone&quot;", 'AT&T 210 Corded "Phone"'
    for compress in (compress_text, compress_ids):
        for budget in (4, whole):
            assert compress(make_scorer("random"), each_tokenizer, raw, budget) == compress(
                make_scorer("random"), each_tokenizer, Item.from_raw(1, {"title": raw}), budget
            )
    assert compress_text(make_scorer("head"), each_tokenizer, raw, whole) == text


def test_the_selector_is_bound_to_the_tokenizer(tokenizer, wordpiece_tokenizer):
    unbound = TokenSelector.from_pretrained()
    bound = unbound.for_tokenizer(tokenizer)
    assert unbound.compress_text(TEXTS, 6, tokenizer) == bound.compress_text(TEXTS, 6, tokenizer)
    with pytest.raises(ValueError, match="is bound to another tokenizer"):
        bound.compress_text(TEXTS, 6, wordpiece_tokenizer)


def test_granularity_is_checked(tokenizer):
    with pytest.raises(ValueError, match="granularity must be 'word' or 'token'; found 'line'"):
        compress_ids(make_scorer("head"), tokenizer, "a pen", Budget(tokens=1), "line")
