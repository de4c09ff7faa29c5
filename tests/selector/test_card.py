from __future__ import annotations

import yaml

from tsporec.selector.card import TRAINING, find_name, model_card, name_on, put_name
from tsporec.selector.model import SelectorConfig, TokenSelector

FULL = {
    "summary": "Learned on \n pens.",
    "base": "tsporec/base",
    "data": ["pens (mine, 12 items)", "staples"],
    "terms": "mine",
    "datasets": ["me/pens"],
    "tokenizers": ["SmolLM2", "all-MiniLM"],
    "reward": "co-consumption",
    "budgets": [8, 16],
    "rounds": 3,
    "metrics": [{"scorer": "head", "NDCG@10": 0.1}, {"scorer": "a|b", "NDCG@10": 0.12345, "note": "x"}],
    "measured": "On \n pens.",
    "limits": ["English only."],
    "license": "apache-2.0",
    "environment": {"commit": "abc", "seed": 0, "versions": {"torch": "2.13"}, "hardware": {}},
}


def card(training, **options):
    config = SelectorConfig(dim=4, hidden=4, gram_buckets=8, surface_buckets=8, training=training, **options)
    return model_card(config, "me/mine")


def test_everything_known_is_on_the_card():
    assert FULL.keys() == TRAINING.keys()
    _, head, body = card(FULL).split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "tsporec", "license": "apache-2.0", "datasets": ["me/pens"],
        "tags": ["tsporec", "recommendation", "token-selection", "prompt-compression"],
    }  # fmt: skip
    for line in (
        "# me/mine", "Learned on pens.", "- Began from: tsporec/base", "- Texts: pens (mine, 12 items); staples",
        "- Terms of the data: mine", "- Tokenizers: SmolLM2; all-MiniLM", "- Reward: co-consumption",
        "- Budgets (tokens): 8, 16", "- Rounds: 3", "- Made with: commit abc, seed 0, torch 2.13", "- English only.",
        "On pens.",
        "| scorer | NDCG@10 | note |", "| --- | --- | --- |", "| head | 0.1000 |  |", "| a\\|b | 0.1235 | x |",
        'selector = TokenSelector.from_pretrained("me/mine").for_tokenizer(tokenizer)',
    ):  # fmt: skip
        assert line in body.splitlines(), line


def test_the_hub_client_reads_it():
    from huggingface_hub import ModelCard

    assert ModelCard(card(FULL)).data.library_name == "tsporec"


def test_nothing_is_said_that_is_not_known():
    text = card({})
    assert "Not measured." in text
    assert "it may be untrained" in text
    assert "license" not in text


def test_free_text_is_taken_as_it_is():
    text = card({"data": "pens", "metrics": "good", "environment": "a laptop", "colour": "blue"})
    assert "- Texts: pens\n" in text
    assert "- Made with: a laptop" in text
    assert "blue" not in text
    assert "Not measured." in text
    assert "what a recommender gains" not in text
    assert "what a recommender gains" in card({"reward": "co-consumption"})
    assert "On pens." not in card({"measured": "On pens."})
    assert "| a |\n| --- |\n|  |\n" in card({"metrics": [{"a": None}]})
    assert "Not measured." in card({"metrics": 5, "environment": {"versions": [1]}})


def test_names_and_heads_of_tables_are_one_line():
    config = SelectorConfig(training={"metrics": [{"a|b": 1, "c\nd": 2}]})
    text = model_card(config, "x\ny")
    assert "| a\\|b | c d |\n| --- | --- |\n| 1 | 2 |\n" in text
    assert "# x y\n" in text
    assert name_on(text, config) == find_name(text) == "x y"


def test_the_name_on_a_card():
    config = SelectorConfig()
    edited = model_card(config, "me/mine").replace("A token selector.", "Of USER/NAME.")
    assert find_name(edited) == "me/mine"
    assert name_on(edited, config) is None
    assert find_name("# Notes\n\n# me/mine\n") is None
    assert put_name(edited, "a/b") == edited
    assert put_name(model_card(config), r"a/\1") == model_card(config, r"a/\1")


def test_a_table_of_embeddings_says_how_it_is_bound():
    assert "embeddings=model.get_input_embeddings().weight" in card({}, table="embeddings", embedding_width=3)


def test_saving_writes_the_card_and_a_reload_gives_the_same(tmp_path):
    config = SelectorConfig(dim=4, hidden=4, gram_buckets=8, surface_buckets=8, training=FULL)
    folder = TokenSelector(config).save_pretrained(tmp_path / "a")
    again = TokenSelector.from_pretrained(folder).save_pretrained(tmp_path / "b")
    assert (folder / "README.md").read_text() == (again / "README.md").read_text()
