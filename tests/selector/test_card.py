from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tsporec.selector.card import TRAINING, find_name, model_card
from tsporec.selector.config import SavedSelector
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


def saved(training, items=None):
    config = SelectorConfig(dim=4, hidden=4, gram_buckets=8, surface_buckets=8, training=training)
    return SavedSelector(config, "0", has_network=items is not None, item_weights=items)


def card(training, items=None):
    return model_card(saved(training, items), "me/mine")


def test_everything_known_is_on_the_card():
    assert FULL.keys() == TRAINING.keys()
    _, head, body = card(FULL).split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "tsporec", "license": "apache-2.0", "datasets": ["me/pens"],
        "tags": ["tsporec", "recommendation", "token-selection", "prompt-compression"],
    }  # fmt: skip
    for line in (
        "# me/mine", "Learned on pens.", "- Started from: tsporec/base", "- Texts: pens (mine, 12 items); staples",
        "- Terms of the data: mine", "- Tokenizers: SmolLM2; all-MiniLM", "- Reward: co-consumption",
        "- Budgets: 8; 16", "- Rounds: 3", "- Made with: commit abc, seed 0, torch 2.13", "- English only.",
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
    text = model_card(saved({"metrics": [{"a|b": 1, "c\nd": 2}]}), "x\ny")
    assert "| a\\|b | c d |\n| --- | --- |\n| 1 | 2 |\n" in text
    assert "# x y\n" in text
    assert find_name(text) == "x y"


@given(st.sampled_from(sorted(TRAINING.keys() - {"license", "datasets"})), st.text(max_size=40))
def test_free_text_breaks_neither_metadata_nor_markdown(key, text):
    """The lines of the card are as many, and its metadata the same, whatever the text is."""
    value = [{text: text}] if key == "metrics" else text
    plain = card({key: [{"x": "x"}] if key == "metrics" else "x"})
    found = card({key: value}) if text.strip() else plain
    assert len(found.splitlines()) == len(plain.splitlines())
    assert found.split("---\n")[1] == plain.split("---\n")[1]


def test_marks_of_markdown_are_shown_as_they_are():
    text = card({
        "summary": "# idf * tf\n---\n{{ name }}", "limits": ["1. A_list", "`code` <b> [link](x) R&D &lt;"],
        "datasets": ["a: b\n---"], "license": "x: [",
    })  # fmt: skip
    assert "\n\\# idf \\* tf --- {{ name }}\n" in text
    assert "- 1\\. A_list\n- \\`code\\` \\<b> [link\\](x) R&D \\&lt;\n" in text
    assert yaml.safe_load(text.split("---\n")[1])["datasets"] == ["a: b ---"]


def test_item_weights_are_counted():
    items = {"sha256": "0", "items": 1234}
    text = card({}, items)
    assert "learned weights for the words of 1,234 items" in text
    assert 'TokenSelector.from_pretrained("me/mine").without_item_weights()' in text
    assert "without those of the network" not in text
    assert "item weights" not in card({})
    assert "without those of the network, which has learned nothing" in card({})


def test_the_name_on_a_card():
    edited = model_card(saved({}), "me/mine").replace("A token selector.", "By USER/NAME.")
    assert find_name(edited) == "me/mine"
    assert find_name("# Notes\n\n# me/mine\n") is None


def test_saving_writes_the_card_and_a_reload_gives_the_same(tmp_path):
    config = SelectorConfig(dim=4, hidden=4, gram_buckets=8, surface_buckets=8, training=FULL)
    folder = TokenSelector(config).save_pretrained(tmp_path / "a")
    again = TokenSelector.from_pretrained(folder).save_pretrained(tmp_path / "b")
    assert (folder / "README.md").read_text() == (again / "README.md").read_text()
