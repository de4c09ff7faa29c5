"""Benchmarks run, and print what the pages say they print."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import DataCollatorWithPadding

from benchmarks import base, collator
from benchmarks.learning import RULE
from benchmarks.tables import short, table
from tests.conftest import make_tokenizer
from tsporec import Budget, SelectorCollator, TokenSelector
from tsporec.selector import files, hub

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
TABLES = {
    "Office_Products.json": "benchmarks/README.md",
    "Industrial_and_Scientific.json": "benchmarks/README.md",
}


@pytest.mark.parametrize("name", TABLES)
def test_pages_hold_the_tables_of_the_results(name):
    page = (RESULTS.parent.parent / TABLES[name]).read_text()
    assert table(json.loads((RESULTS / name).read_text()), "adapted") in page


def test_the_page_on_learning_holds_the_short_table():
    files = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("real-*.json"))]
    assert short(files) in (RESULTS.parent.parent / "docs" / "research" / "learning.md").read_text()


def test_the_bundled_rule_is_the_one_that_was_chosen():
    from benchmarks.rule import CHOSEN, TRIED

    bundled = TokenSelector.from_pretrained()
    assert (bundled.config.weighting, bundled.config.surface_buckets) == (RULE.weighting, RULE.surface_buckets)
    assert CHOSEN in TRIED
    for blend in (CHOSEN.fit([]).blend, TokenSelector(RULE).blend):
        torch.testing.assert_close(blend, bundled.blend)


def test_the_bundled_card_holds_the_figures_of_the_results():
    training = TokenSelector.from_pretrained().config.training
    expected = {**base.described(network=False), **base.figures(RESULTS)}
    assert {key: training[key] for key in expected} == expected
    assert json.loads((hub.BUNDLED / "base" / files.CONFIG).read_text())["training"].keys() == training.keys()
    assert {row["selector"] for row in training["metrics"]} == {
        "sibling, had not seen these texts",
        "this one, made from these texts",
    }


def test_a_cold_batch_is_split():
    tokenizer = make_tokenizer("bpe")
    rows = collator.features(0, 2, len(tokenizer))
    padding = DataCollatorWithPadding(tokenizer)
    columns = ("input_ids", "attention_mask", "item_spans")
    rows = [{name: row[name] for name in columns} for row in rows]
    wrapped = SelectorCollator(padding, TokenSelector().for_tokenizer(tokenizer), Budget(tokens=collator.K))
    times = collator.split_cold(wrapped, rows)
    whole = times.pop("all")
    assert sum(times.values()) == pytest.approx(whole, abs=0.1)


def test_a_selector_learns_from_a_frozen_recommender(tmp_path, monkeypatch):
    from benchmarks import real
    from tests.conftest import make_causal_lm
    from tsporec.data.synthetic import CatalogueConfig, generate
    from tsporec.evaluation.evaluator import Evaluator
    from tsporec.evaluation.task import prepare
    from tsporec.recommenders.embedding import EmbeddingConfig
    from tsporec.recommenders.encoder import ItemEncoder
    from tsporec.scorers import make_scorer

    monkeypatch.setattr(real, "CANDIDATES", replace(real.CANDIDATES, count=4))
    made = generate(CatalogueConfig(items=60, users=60, tastes=6, words_per_taste=3, phrases=8, sequence=5))
    task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",))
    encoder = ItemEncoder(make_causal_lm(len(made.tokenizer)))
    evaluator = Evaluator(task, encoder, EmbeddingConfig(width=8, eval_every=5, patience=1), [0, 1], tmp_path)
    start = TokenSelector(RULE).for_tokenizer(made.tokenizer).fit(task.tokens)
    learned, reports = zip(*(real.learn_frozen(task, evaluator, start, (2, 4), seed) for seed in (0, 1)), strict=True)
    for budget, selector in learned[0].items():
        # Margins are tried on vectors that are known; the selector's own text must give the same.
        vectors = evaluator.features(selector, budget)["vectors"]
        quality = evaluator.warmed((2, 4), 0).held_out_ndcg(vectors, task.held_out)
        tried = reports[0]["held-out NDCG@10 by margin"][budget]
        assert quality == pytest.approx(max(tried.values()))
        rules = {"rule": start, "tfidf": make_scorer("tfidf").fit(task.tokens), "head": make_scorer("head")}
        alone = {
            name: evaluator.warmed((2, 4), 0).held_out_ndcg(evaluator.features(rule, budget)["vectors"], task.held_out)
            for name, rule in rules.items()
        }
        assert alone[reports[0]["first"][budget]] == max(alone.values()) == tried["inf"]
    of_budget = {budget: [selectors[budget] for selectors in learned] for budget in (2, 4)}
    scorers = {"head": make_scorer("head"), "selector": of_budget}
    cells = evaluator.run(scorers, (2, 4), ["frozen"]).cells
    assert [(cell.scorer, cell.budget) for cell in cells] == [(name, k) for name in scorers for k in (2, 4)]
    rows = real.ceiling(task, evaluator, start, (2, 4), 0)
    assert [row["k"] for row in rows] == [2, 4]
    assert all(row["reward above the rule's (nats)"] >= 0 for row in rows)
    with pytest.raises(ValueError, match="a scorer for each of 2 seeds"):
        evaluator.run({"selector": of_budget[2][:1]}, (2,))
    one = {s: Evaluator(task, encoder, EmbeddingConfig(width=8, eval_every=5, patience=1), [s]) for s in (0, 1)}
    alone = [one[s].run({"selector": learned[s]}, (2,), ["frozen"]).cells[0].metrics["mrr"] for s in (0, 1)]
    together = evaluator.run(scorers, (2,), ["frozen"]).cells[1].metrics["mrr"]
    assert together == pytest.approx(sum(alone) / 2)


def test_items_are_known_in_the_forms_of_prompts(tokenizer):
    from benchmarks import known
    from tests.conftest import TEXTS
    from tsporec.data.items import tokenize_texts

    made = known.forms(TEXTS, [text[::-1] for text in TEXTS])
    assert {*known.FORMS, "cut at its end", "capitals"} == made.keys()
    corpus = tokenize_texts(made["as learned"], tokenizer)
    selector = TokenSelector.from_pretrained().for_tokenizer(tokenizer).fit(corpus)
    learned = selector.with_item_weights(corpus)
    torch.nn.init.normal_(learned.item_weights.weight)
    for form, texts in made.items():
        row = known.measure(selector, learned, tokenize_texts(texts, tokenizer))
        assert row["known"] == 1, form
        assert row["other tokens kept"] > 0.5, form


def quick_fits(monkeypatch):
    """Recommenders stop after a few steps: what is tested is who learns from what, not how well."""
    from tsporec.recommenders.embedding import EmbeddingRecommender

    fit = EmbeddingRecommender.fit

    def quick(self, *arguments):
        self.config = replace(self.config, eval_every=5, patience=1)
        return fit(self, *arguments)

    monkeypatch.setattr(EmbeddingRecommender, "fit", quick)


def test_training_users_choose_the_start_of_each_budget(tmp_path, monkeypatch):
    from argparse import Namespace

    from benchmarks import real
    from tests.conftest import make_causal_lm
    from tsporec.data.synthetic import CatalogueConfig, generate
    from tsporec.evaluation.task import prepare
    from tsporec.recommenders.encoder import ItemEncoder
    from tsporec.selector.config import WEIGHTINGS

    made = generate(CatalogueConfig(items=60, users=60, tastes=6, words_per_taste=3, phrases=8, sequence=5))
    task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",))
    monkeypatch.setattr(real, "REAL", replace(real.REAL, budgets=(2,), item_rounds=1, candidates=4, pairs=2))
    options = Namespace(seeds=[0, 1], budgets=[2, 4], cache=tmp_path)
    encoder = ItemEncoder(make_causal_lm(len(made.tokenizer)))
    quick_fits(monkeypatch)
    chosen = real.choose_starts(task, encoder, made.tokenizer, options)
    assert chosen["rows"] == len([row for row in task.train if len(row) > 2])
    for budget, found in chosen["found"].items():
        assert set(found) == set(WEIGHTINGS)
        assert found[chosen["starts"][budget]] == max(found.values())
    starts = {2: "idf", 4: "placed", 8: "idf"}
    selectors, _ = real.learn_adapted(task, made.tokenizer, starts, 1)
    assert {budget: s.config.weighting for budget, s in selectors.items()} == starts
    assert selectors[2] is selectors[8]
    again, _ = real.learn_adapted(task, made.tokenizer, {2: "idf"}, 1)
    other, _ = real.learn_adapted(task, made.tokenizer, {2: "idf"}, 0)
    assert again[2].fingerprint == selectors[2].fingerprint != other[2].fingerprint


def test_ways_of_learning_are_compared_on_users_nobody_learned_from(monkeypatch):
    from benchmarks import ablation
    from tests.conftest import make_causal_lm
    from tsporec.data.synthetic import CatalogueConfig, generate
    from tsporec.evaluation.task import prepare
    from tsporec.recommenders.embedding import EmbeddingRecommender
    from tsporec.recommenders.encoder import ItemEncoder

    made = generate(CatalogueConfig(items=40, users=40, tastes=4, words_per_taste=3, phrases=8, sequence=5))
    task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",))
    folds = list(ablation.folds_of(task, 3))
    judged = [fold.test[i] for fold in folds for i in range(len(fold.test)) if fold.test[i] in task.train]
    assert sorted(judged) == sorted(task.train)
    assert sum(len(fold.test) for fold in folds) == sum(len(sequence) - 1 for sequence in task.train)
    for fold in folds:
        assert sorted(fold.train + [row for row in fold.test if row in task.train]) == sorted(task.train)
        assert (fold.held_out, len(fold.users)) == (task.held_out, len(fold.test))
    # A user is a sequence: one name for all its places, of which each is longer by one, and nobody else's.
    users = [user for fold in folds for user in fold.users]
    rows = [row for fold in folds for row in fold.test]
    assert len(set(users)) == len(task.train)
    for (user, row), (next_user, next_row) in pairwise(zip(users, rows, strict=True)):
        assert (user == next_user) == (len(next_row) > 2)
        assert user != next_user or next_row[:-1] == row

    learned_from, fitted_on = [], []
    quick_fits(monkeypatch)
    learn, fit = ablation.learn, EmbeddingRecommender.fit
    monkeypatch.setattr(ablation, "learn", lambda part, *rest: learned_from.append(part.train) or learn(part, *rest))
    monkeypatch.setattr(
        EmbeddingRecommender,
        "fit",
        lambda self, f, train, held, *rest: fitted_on.append(train) or fit(self, f, train, held, *rest),
    )
    variants = {"the recipe": replace(ablation.REAL, item_rounds=1, candidates=4, pairs=2)}
    rows = ablation.ablation(
        task, ItemEncoder(make_causal_lm(len(made.tokenizer))), made.tokenizer, 2, [0], 3, variants
    )
    assert [row["learning"] for row in rows] == ["head", "tfidf", *ablation.RULES, "the recipe"]
    assert all("minus tfidf (95%)" in row for row in rows[2:])
    trained = [fold.train for fold in folds]
    assert learned_from == trained
    assert fitted_on == trained * len(rows)
