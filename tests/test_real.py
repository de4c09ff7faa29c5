"""The main job on real items with a real language model."""

from __future__ import annotations

import numpy as np
import pytest

from tsporec.budget import Budget
from tsporec.collators.selector import SelectorCollator
from tsporec.data.items import item_text, tokenize_items
from tsporec.data.readers import read_items, read_sequences
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.task import prepare
from tsporec.language_model import cut_layers
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.recommenders.generative import GenerativeRecommender, PromptTemplate
from tsporec.scorers import make_scorer
from tsporec.selection import select
from tsporec.selector.model import TokenSelector

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def office(data_dir, real_lm):
    base = data_dir / "amazon18" / "Office_Products"
    rows = [read_sequences(f"{base}.{split}.csv") for split in ("valid", "test")]
    return read_items(f"{base}.item.json"), *rows, *real_lm


def test_every_scorer_reads_real_items(office):
    items, _, _, lm, tokenizer = office
    corpus = tokenize_items(items, tokenizer)
    assert np.median(tokenize_items(items, tokenizer, ("title",)).lengths) == 28  # as the data's own description says
    few = tokenize_items(items[:5], tokenizer, max_tokens=64)
    scorers = {
        "tfidf": make_scorer("tfidf").fit(corpus),
        "selector": TokenSelector().for_tokenizer(tokenizer).fit(corpus),
        "self_information": make_scorer("self_information", model=lm),
        "attention": make_scorer("attention", model=lm, layers=2),
        "centroid": make_scorer("centroid", model=lm, layers=2),
    }
    for name, scorer in scorers.items():
        kept = select(scorer, few, Budget(tokens=8)).apply(few)
        assert kept.lengths.tolist() == np.minimum(few.lengths, 8).tolist(), name
        alone = select(scorer, few.take([3]), Budget(tokens=8)).apply(few.take([3]))
        assert alone.to_lists() == [kept.to_lists()[3]], name


def test_pieces_spell_real_texts(office):
    items, _, _, _, tokenizer = office
    from tsporec.tokens.pieces import read_pieces

    corpus = tokenize_items(items, tokenizer)
    for i in range(0, len(items), 50):
        assert read_pieces(tokenizer).text(corpus[i])[0] == item_text(items[i])


def test_short_texts_recommend_far_better_than_chance(office):
    items, train, test, lm, tokenizer = office
    task = prepare(items, train, test, tokenizer)
    config = EmbeddingConfig(eval_every=5, patience=1, cool_down=0.2)
    evaluator = Evaluator(task, ItemEncoder(cut_layers(lm, 1)), config)
    (cell,) = evaluator.run({"head": make_scorer("head")}, [8]).cells
    assert cell.tokens < 0.07 * task.tokens.num_tokens
    assert cell.metrics["recall@10"] > 20 * 10 / len(items)


def test_prompts_are_cut_and_candidates_ranked(office):
    items, _, test, lm, tokenizer = office
    from transformers import DataCollatorForSeq2Seq

    texts = tokenize_items(items, tokenizer, max_tokens=32)
    template = PromptTemplate.build(texts, [item_text(item, ("title",)) or "?" for item in items], tokenizer)
    recommender = GenerativeRecommender(lm, template)
    collator = SelectorCollator(DataCollatorForSeq2Seq(tokenizer), make_scorer("head"), Budget(tokens=12))
    better = []
    for row in test[:4]:
        *history, target = map(int, row.item_ids)
        (cut,) = collator.cut([template.feature(history[-3:])])
        assert len(cut["input_ids"]) < len(template.feature(history[-3:])["input_ids"])
        rivals = [target, *((target + step) % len(items) for step in (700, 1400, 2100))]
        scores = recommender.candidate_log_likelihoods(cut, rivals) / template.titles.lengths[rivals]
        better.append((scores[0] > scores[1:]).mean())
    assert np.mean(better) > 0.5
