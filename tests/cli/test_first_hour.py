"""The faults that a new user met in the first hour, and a test for each.

Faults of other parts have their tests beside these parts: ``ELSEWHERE`` names them.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import evaluate_arguments, run, train_arguments
from tests.conftest import TEXTS, make_causal_lm
from tsporec import Budget, ItemCatalog, RaggedTokens, SelectorCollator, TokenSelector, make_scorer, wrap_tokenizer
from tsporec.collators.catalog import CatalogCollator, PlainItems
from tsporec.data.items import Interactions, Item, tokenize_items, tokenize_texts
from tsporec.data.readers import read_items, read_sequences
from tsporec.data.splits import make_rows, split
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.task import Task, prepare
from tsporec.language_model import load_causal_lm
from tsporec.learning.config import LearningConfig
from tsporec.learning.pipeline import train
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers.patterns import Keeping
from tsporec.selection import select

ROOT = Path(__file__).parent.parent.parent
ELSEWHERE = {
    "the README's example does not run": "tests/docs/test_pages.py::test_the_blocks_of_a_page_run",
    "formats are documented nowhere": "tests/docs/test_pages.py::test_the_pages_list_every_command_and_every_format",
    "the site is a lab notebook": "tests/docs/test_pages.py::test_every_page_stands_in_the_navigation",
    "the API page lacks names": "tests/docs/test_api.py::test_the_names_of_the_package_have_their_homes_on_the_page",
    "AT&T 210 Corded Phone has other words by way in": "tests/test_ways_in.py::test_every_way_in_keeps_the_same",
    "compress_text takes no list": "tests/selector/test_compress_text.py::test_a_list_of_texts_is_each_text",
    "TRL drops long rows": "tests/test_examples.py::test_trl_sft_loses_no_row_and_fills_its_packs",
    "TRL's packs are refused": "tests/collators/test_trl.py::test_packs_with_cut_off_markers_are_cut_and_counted",
    "completion_mask is not read": "tests/collators/test_trl.py::test_masks_that_trl_made_labels_of",
    "--plot is refused after the run": "tests/cli/test_app.py::test_bad_input_is_one_line_and_code_2",
    "no bar on a terminal, no line in a log": "tests/test_progress.py::test_a_log_has_a_line_a_minute",
    "tables are wider than 80 columns": "tests/evaluation/test_report.py::test_tables_fit_80_columns_whole",
}


@pytest.mark.parametrize("place", ELSEWHERE.values(), ids=list(ELSEWHERE))
def test_the_other_faults_have_a_test_where_they_were_mended(place):
    path, name = place.split("::")
    assert f"def {name}(" in (ROOT / path).read_text()


# -- own data, and a verdict


def test_own_files_give_a_verdict_in_one_command_and_the_next_command_runs(files, tmp_path):
    pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    with gzip.open(tmp_path / "items.jsonl.gz", "wt") as stream:
        for i in range(12):
            stream.write(json.dumps({"item_id": f"B{i}", "name": TEXTS[i % 6], "about": TEXTS[(i + 1) % 6]}) + "\n")
    rows = [f"u{u},B{(u + step) % 12},2024-05-0{step + 1}" for u in range(20) for step in range(4)]
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    done = run(
        "train", "--items", tmp_path / "items.jsonl.gz", "--interactions", tmp_path / "interactions.csv", "--model",
        files / "model", "--ratio", "0.25", "--fields", "name,about", "--seeds", "0,1", "--keep", "numbers",
        "--output", tmp_path / "run",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = " ".join(done.stdout.split())
    for row in ("head", "untrained", "selector", "full"):
        assert f"\n {row} " in done.stdout
    for part in (
        "25% of each text keep",
        "of the whole text's NDCG@10 at",
        "the best rule",
        "that --keep names are kept",
    ):
        assert part in told
    assert sum(line.startswith("→") for line in done.stdout.splitlines()) == 5
    following = shlex.split(done.stdout.splitlines()[-1].removeprefix("next: tsporec "))
    again = run(*following)
    assert again.exit_code == 0, again.output
    assert "12 items" in again.stdout
    assert re.search(r"\d+% of the \d+ tokens that --keep names are kept", again.stdout)
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert written["settings"]["split"] == "last-item"
    assert written["settings"]["format"] == {"items": "plain", "interactions": "plain"}
    assert written["settings"]["selector"]["fingerprint"]
    assert written["environment"]["versions"]["tsporec"]
    assert written["cells"][0]["budget"] == 0.25
    assert 0 < written["keep"]["kept"] <= written["keep"]["tokens"]


def test_the_frozen_case_has_a_command(files):
    arguments = "--cases", "frozen,adapted", "--scorers", "head,full", "--budget", 2, "--seeds", 0
    done = run(*evaluate_arguments(files), *arguments)
    assert done.exit_code == 0, done.output
    assert "frozen, 20 test rows" in done.stdout
    assert "adapted, 20 test rows" in done.stdout


def test_a_selector_is_compared_with_the_rule_that_it_started_from(files):
    common = [*evaluate_arguments(files), "--budget", 2, "--seeds", 0, "--json"]
    done = run(*common, "--selector", "tsporec/base")
    assert done.exit_code == 0, done.output
    names = ["head", "random", "tfidf", "untrained", "selector", "full"]
    assert list(dict.fromkeys(cell["scorer"] for cell in json.loads(done.stdout)["cells"])) == names


def test_a_test_target_in_training_is_refused_in_python_too(tokenizer):
    items = [Item(str(i), {"title": TEXTS[i % 6]}) for i in range(6)]
    users = [Interactions(f"u{u}", tuple(str((u + step) % 6) for step in range(4))) for u in range(8)]
    learned_from, held_out = split(users)
    rows = make_rows(learned_from, held_out)
    assert len(prepare(items, learned_from, rows, tokenizer).test) == 8
    for known, tested in ((users, rows), (users, users)):
        with pytest.raises(ValueError, match=r"8 of 8 test sequences stand in the training .*Take them out"):
            prepare(items, known, tested, tokenizer)


def test_every_example_of_the_data_page_is_read(tmp_path):
    page = (ROOT / "docs" / "data.md").read_text()
    examples = re.findall(r"^\| `(\.\w+)`.*?\| (.*) \|$", page, flags=re.MULTILINE)
    assert [ending for ending, _ in examples] == [".jsonl", ".json", ".csv", ".tsv", ".parquet"]
    for ending, example in examples[:3]:
        path = tmp_path / f"items{ending}"
        path.write_text("\n".join(re.findall(r"`([^`]+)`", example)[: 2 if ending == ".csv" else 1]) + "\n")
        assert read_items(path)[0].fields["title"] == "Gel pen"
    (block,) = re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "interactions.csv").write_text(block)
    assert [(row.user_id, row.item_ids) for row in read_sequences(tmp_path / "interactions.csv")]


def test_whole_texts_are_read_and_the_models_limit_is_told(tokenizer):
    model = make_causal_lm(len(tokenizer))  # 512 positions
    items = [
        Item("long", {"title": "pen " * 700}),
        Item("short", {"title": "gel pen"}),
        Item("other", {"title": "ink"}),
    ]
    users = [Interactions(str(u), ("long", "short", "other")) for u in range(4)]
    task = prepare(items, users, [], tokenizer)
    assert task.tokens.lengths[0] >= 700
    with pytest.warns(
        UserWarning, match="1 of 3 texts are longer than the 512 tokens that this language model can read"
    ):
        vectors = ItemEncoder(model).encode(task.tokens)
    first = RaggedTokens.from_lists([task.tokens[0][:512]])
    np.testing.assert_allclose(vectors[0], ItemEncoder(model).encode(first)[0], atol=1e-6)


@pytest.mark.parametrize("name", ["items.jsonl", "items.csv", "items.item"])
def test_an_id_that_comes_twice_is_refused_with_both_lines(tmp_path, name):
    headers = {"items.csv": ("item_id,title\n", ","), "items.item": ("item_id:token\ttitle:token_seq\n", "\t")}
    header, mark = headers.get(name, ("", ""))
    rows = [f"{item}{mark}pen" if mark else json.dumps({"id": item, "title": "pen"}) for item in (1, 2, 3, "2")]
    (tmp_path / name).write_text(header + "\n".join(rows) + "\n")
    first, again = (3, 5) if header else (2, 4)
    with pytest.raises(ValueError, match=rf"{name}:{again}: item '2' stands at .*{name}:{first} already"):
        read_items(tmp_path / name)
    with pytest.raises(ValueError, match="list:2: item '1' stands at list:1 already"):
        read_items([{"id": 1, "title": "pen"}, {"id": "1", "title": "ink"}])


def test_a_date_that_is_none_is_refused_with_good_ones():
    row = {"user_id": "u", "item_id": 1}
    for bad in ("May 3rd", "2024-13-01", []):
        with pytest.raises(ValueError, match=r"list:1: .*such as 1717180200, or an ISO date such as 2024-05-31"):
            read_sequences([{**row, "date": bad}])


def test_split_keeps_times_as_they_were_written(tmp_path):
    rows = ["u,1,2024-05-01", "u,2,2024-05-03T18:30:00Z", "v,1,2024-05-02 10:00", "v,3,1714730000", "v,2,1714740000.5"]
    (tmp_path / "all.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    assert run("split", "--interactions", tmp_path / "all.csv", "--output", tmp_path).exit_code == 0
    written = [(tmp_path / f"{name}.csv").read_text().splitlines() for name in ("train", "test")]
    assert [lines.pop(0) for lines in written] == ["user_id,item_id,timestamp"] * 2
    assert sorted(written[0] + written[1]) == sorted(rows)


# -- the command line


FLAGS = [
    (["evaluate", "--ratio", "2"], "--ratio takes shares above 0 and up to 1, comma-separated; found '2'"),
    (["evaluate", "--ratio", "0.5", "--budget", "4"], "--ratio stands in place of --budget; leave one out"),
    (["evaluate", "--scorers", "best"], "there is no scorer 'best'; expected head, "),
    (["evaluate", "--cases", "warm"], "--cases takes adapted, frozen, comma-separated; found 'warm'"),
    (["evaluate", "--layers", "9"], "--layers must be from 1 to 2"),
    (["evaluate", "--fields", ","], "--fields takes one or more names"),
    (["evaluate", "--keep", "numbers,[A-Z]+"], "found both in 'numbers,[A-Z]+'. Give --keep once for each"),
    (["evaluate", "--keep", "["], "--keep takes numbers, identifiers or regular expressions"),
    (["evaluate", "--output", "."], "--output is a file to write"),
    (["evaluate", "--selector", "tsporec/base", "--scorers", "head"], "add selector or leave it out"),
    (["train", "--reward", "mine"], "--reward takes coconsumption, recommendation, identity, comma-separated"),
    (["train", "--weighting", "best"], "--weighting takes idf, tfidf, placed, comma-separated; found 'best'"),
    (["train", "--budget", "0"], "--budget takes whole numbers of at least 1"),
    (["train", "--ratio", "0"], "--ratio takes shares above 0"),
    (["train", "--layers", "0"], "--layers must be from 1 to 2"),
    (["train", "--drop-unknown", "--fields", "colour"], "Name those that hold the text with --fields"),
    (["compress", "--granularity", "line"], "--granularity must be 'word' or 'token'"),
    (["compress", "--num-proc", "0"], "--num-proc"),
    (["compress", "--num-proc", "two"], "Invalid value for '--num-proc'"),
    (["compress", "--budget", "many"], "--budget takes whole numbers of at least 1"),
    (["compress", "--budget", "8,16"], "a catalogue has one budget; found '8,16'"),
    (["compress", "--selector", "head"], "'head' is a scorer, not a selector"),
    (["compress", "--model", "nowhere"], "no model or tokenizer 'nowhere': there is no such folder"),
    (["show", "--colour", "red"], "No such option"),
    (["show", "--budget", "abc"], "--budget takes whole numbers of at least 1, comma-separated; found 'abc'"),
    (["show", "--selector", "head"], "tsporec show --scorer head"),
    (["show", "--scorer", "run/selector"], "A selector of yours is the scorer selector, with --selector FOLDER"),
    (["show", "--model", "."], "the folder does not have tokenizer.json"),
    (["show", "--granularity", "line"], "--granularity must be 'word' or 'token'"),
    (["show", "--scorer", "attention", "--layers", "9"], "--layers must be from 1 to 2"),
    (["split", "--share", "2", "--split", "time"], "--share must be in (0, 1)"),
]


@pytest.mark.parametrize(("arguments", "message"), FLAGS, ids=[" ".join(arguments) for arguments, _ in FLAGS])
def test_messages_speak_of_flags(files, tmp_path, arguments, message):
    command, *options = arguments
    given = {
        "--items": files / "items.jsonl", "--interactions": files / "interactions.csv", "--model": files / "model",
        "--output": tmp_path / "out",
    }  # fmt: skip
    left_out = {"compress": ["--interactions"], "show": ["--interactions", "--output"], "split": ["--items", "--model"]}
    needed = [part for name, value in given.items() if name not in left_out.get(command, []) for part in (name, value)]
    result = run(command, *needed, *options)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not re.search(r"\w+=…|\w_\w+=|max_tokens|id_field|num_proc|None\b", line)
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


COMMANDS = ["train", "evaluate", "compress", "show", "split"]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_says_how_to_go_on(files, tmp_path, command, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tsporec.data.readers.read_items", interrupted)
    monkeypatch.setattr("tsporec.data.readers.read_sequences", interrupted)
    monkeypatch.setattr("tsporec.catalog.catalog.ItemCatalog.build", interrupted)
    needed = {
        "train": train_arguments(files)[1:], "evaluate": evaluate_arguments(files)[1:],
        "compress": ["--items", files / "items.jsonl", "--model", files / "model"],
        "show": ["--items", files / "items.jsonl", "--model", files / "model"],
        "split": ["--interactions", files / "interactions.csv"],
    }  # fmt: skip
    output = [] if command == "show" else ["--output", tmp_path / "out"]
    stopped = run(command, *needed[command], *output)
    assert stopped.exit_code == 130
    assert stopped.stderr.startswith("stopped. ")
    assert "same command" in stopped.stderr


def test_a_run_prints_nothing_of_other_libraries(files, tmp_path):
    pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    arguments = [str(part) for part in train_arguments(files)]
    command = [sys.executable, "-m", "tsporec.cli", *arguments, "--no-verdict", "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    counts, time = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert counts == "12 items, 20 users to learn from, 20 rows to test on"
    assert re.fullmatch(
        r"reading the texts takes about \d+ seconds; fitting .* rounds of preferences comes on top", time
    )
    again = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert again.stderr.splitlines()[-1] == "resumed: 7 of 7 steps were done"
    assert not re.search(r"[Dd]eprecat|transformers|datasets|site-packages|%\|", done.stderr)


@pytest.mark.parametrize(
    ("command", "change", "message"),
    [
        ("evaluate", ["--seeds", 0, "--seeds", "x"], "warning: --seeds is given 2 times; the last counts."),
        ("evaluate", ["--interactions", "."], "error: . is a folder; name the file in it"),
        ("evaluate", ["--interactions", "other.csv"], "names item '01', .* 12 items lacks; its ids are like '0'"),
        ("evaluate", ["--interactions", "other.csv", "--drop-unknown"], "none of 2 interactions .* like '01', .*'0'"),
        ("evaluate", ["--interactions", "semicolons.csv"], "semicolons.csv:1: the columns are separated by ';'"),
        ("evaluate", ["--scorers", "selector", "--selector", "run"], "run has no config.json; .* Give run/selector."),
        ("train", ["--output", "other.csv"], "other.csv is a file; give a folder to write to"),
        ("train", ["--output", "new", "--push-to-hub", "my name"], "--push-to-hub takes .*; found 'my name'"),
        ("show", ["--html", "."], "error: . is a folder; give a file to write"),
    ],
)
def test_mistakes_are_named(files, tmp_path, monkeypatch, command, change, message):
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("user_id,item_id\nu,01\nu,02\n")
    Path("semicolons.csv").write_text("user_id;item_id\nu;1\n")
    TokenSelector().save_pretrained("run/selector")
    needed = {"train": train_arguments(files), "evaluate": evaluate_arguments(files)}
    show = ["show", "--items", files / "items.jsonl", "--model", files / "model"]
    arguments = dict(zip(*[iter(needed.get(command, show)[1:])] * 2, strict=True))
    kept = [part for pair in arguments.items() if pair[0] not in change for part in pair]
    done = run(command, *kept, *change)
    assert done.exit_code == 2, done.output
    assert re.search(message, done.stderr)
    assert not Path("new").exists()


# -- Python


def calls(tokenizer, model):
    """Return (a call with a wrong type, the error, what it says)."""
    tokens = RaggedTokens.from_lists([[4, 5, 6]])
    selector = TokenSelector().for_tokenizer(tokenizer)
    items, users = [Item("1", {"title": "pen"})], [Interactions("u", ("1", "1"))]
    learn = (items, users, model, tokenizer, "run")
    build = partial(ItemCatalog.build, tokenizer=tokenizer, selector=selector, budget=8, path="x")
    return [
        (
            lambda: select(selector, tokens, "8"),
            ValueError,
            "a budget is a Budget or a whole number of tokens; found '8'",
        ),
        (lambda: select("tsporec/base", tokens, 8), TypeError, r"expected a scorer.*from_pretrained\(name\)"),
        (lambda: selector.select(tokens, 8.0), ValueError, "a budget is a Budget or a whole number"),
        (lambda: selector.fit("gel pen"), TypeError, "corpus must be a list of texts or RaggedTokens, found str"),
        (lambda: selector.fit(None), TypeError, "corpus must be a list of texts or RaggedTokens, found NoneType"),
        (lambda: TokenSelector("tsporec/base"), TypeError, r"config must be a SelectorConfig.*from_pretrained\(name\)"),
        (lambda: selector.compress_text(5, 8, tokenizer), ValueError, "expected a text or a list of texts; found int"),
        (lambda: SelectorCollator(list, 5, 8), ValueError, "a TokenSelector, another object with a score method"),
        (lambda: SelectorCollator(list, selector, None), ValueError, "a budget is a Budget or a whole number"),
        (lambda: wrap_tokenizer(tokenizer, 5, 8), ValueError, "a TokenSelector, another object with a score method"),
        (
            lambda: ItemCatalog.build(items, tokenizer=tokenizer, selector=selector, budget="8", path="x"),
            ValueError,
            "a budget is a Budget or a whole number",
        ),
        (lambda: train("x", *learn[1:]), TypeError, "items must be a list of Item, found str; .*read_items"),
        (lambda: train(items, "x", *learn[2:]), TypeError, "sequences must be a list of Interactions, found str"),
        (lambda: train(*learn[:3], "gpt2", "run"), TypeError, "expected a Hugging Face tokenizer; found .*str"),
        (lambda: train(*learn, "config"), TypeError, "config must be a LearningConfig; found 'config'"),
        (lambda: LearningConfig(budgets=("8",)), ValueError, "a budget is a Budget or a whole number"),
        (lambda: LearningConfig(budgets=8), ValueError, "budgets must be a tuple of one or more"),
        (lambda: split("interactions.csv"), TypeError, "sequences must be a list of Interactions, found str"),
        (lambda: ItemEncoder("gpt2"), TypeError, r"expected a causal LM, found str; load_causal_lm\(name\)"),
        (lambda: Evaluator("task", None), TypeError, "task must be a Task, found str; .*prepare makes one"),
        (lambda: read_items(None), TypeError, "expected a file, a DataFrame"),
        (lambda: read_items("items.csv", ["title"]), TypeError, r"kind must be a text; found \['title'\]"),
        (lambda: tokenize_items(tokenizer, items), TypeError, "items must be a list of Item, found .*read_items"),
        (lambda: tokenize_items(users, tokenizer), TypeError, "items must be a list of Item, found one of Interact"),
        (lambda: tokenize_items(items, model), TypeError, "expected a Hugging Face tokenizer; found .*ForCausalLM"),
        (lambda: tokenize_items(items, tokenizer, "title"), TypeError, "fields must be a list of names.*'title'"),
        (lambda: tokenize_texts("gel pen", tokenizer), TypeError, "texts must be a list of texts; found 'gel pen'"),
        (lambda: Item("1", {"title": 5}), TypeError, r"dict of texts as fields; found .*5.*Item\.from_raw"),
        (lambda: Interactions("u", ["1"]), TypeError, r"item_ids must be a tuple of texts.*found \['1'\]"),
        (lambda: make_rows(items, users), TypeError, "train must be a list of Interactions, found one of Item"),
        (lambda: make_rows(users, "test.csv"), TypeError, "held_out must be a list of Interactions, found str"),
        (lambda: train(items, users, tokenizer, model, "run"), TypeError, "expected a Hugging Face tokenizer"),
        (lambda: ItemEncoder(tokenizer), TypeError, "expected a causal LM, found "),
        (lambda: make_scorer("attention"), TypeError, "'attention' takes model, .*missing a required argument: 'model"),
        (lambda: make_scorer("head", seed=3), TypeError, "'head' takes no options; got an unexpected .*'seed'"),
        (lambda: make_scorer("centroid", model=tokenizer, tokenizer=model), TypeError, "the model must be a causal LM"),
        (lambda: prepare(items, users, [], tokenizer, "title"), TypeError, "fields must be a list of names.*'title'"),
        (lambda: Evaluator(None, None), TypeError, "task must be a Task"),
        (lambda: split(users, "time", "0.1"), TypeError, "share must be a number in"),
        (lambda: RaggedTokens.from_lists([4, 5]), TypeError, r"a list of token ids for each text; found \[4, 5\]"),
        (lambda: load_causal_lm(None), TypeError, "the model must be a causal LM, or the folder or Hub id of one; fou"),
        (lambda: Budget(keep_ratio="0.25"), ValueError, "keep_ratio must be a number.*found '0.25'"),
        (lambda: tokens.to_padded(None), TypeError, "pad_id must be a token id, found None"),
        (
            lambda: LearningConfig(weightings="tfidf"),
            TypeError,
            "weightings must be of type tuple.*, such as .*found .tfidf",
        ),
        (lambda: LearningConfig(item_rounds="2"), TypeError, "item_rounds must be of type int, such as 0; found '2'"),
        (lambda: EmbeddingConfig(max_steps="9"), TypeError, "max_steps must be of type int, such as 20000; found '9'"),
        (lambda: TokenSelector.from_pretrained(None), TypeError, "name_or_path must be .*'tsporec/base'; found None"),
        (lambda: selector.save_pretrained(None), TypeError, "folder must be a text or a Path, such as 'run/selector'"),
        (lambda: selector.compress_text({"title": "pen"}, 8, tokenizer), ValueError, r"found dict. Item.from_raw\("),
        (lambda: selector.select(tokens, 8, protected=["a", "b"]), ValueError, r"array of bool .*found \['a', 'b'\]"),
        (
            lambda: selector.select(tokens, 8, protected="a", granularity="word"),
            ValueError,
            "of bool .*found 'a'",
        ),
        (lambda: SelectorCollator(None, selector), TypeError, "base_collator must be a function .*found NoneType"),
        (lambda: SelectorCollator(tokenizer, selector), TypeError, r"DataCollatorWithPadding\(tokenizer\)"),
        (lambda: SelectorCollator(list, selector, protected_ids=["a"]), TypeError, r"list of token ids.*found \['a'\]"),
        (lambda: SelectorCollator(list, selector, protected_ids=3), TypeError, "protected_ids must be a list.*found 3"),
        (lambda: SelectorCollator(list, selector)({"input_ids": [5]}), ValueError, "a list of features.*'input_ids'"),
        (
            lambda: Evaluator(object.__new__(Task), model),
            TypeError,
            r"encoder must be an ItemEncoder\(model\), found",
        ),
        (lambda: Evaluator(ItemEncoder(model), object.__new__(Task)), TypeError, "task must be a Task, found ItemEnc"),
        (lambda: ItemCatalog.open(None), TypeError, "path must be a text or a Path, .*'catalog/'; found None"),
        (lambda: build(items, path=None), TypeError, "path must be a text or a Path, .*'catalog/'; found None"),
        (lambda: build(items, path=__file__), ValueError, "test_first_hour.py is a file; give a folder to write to"),
        (lambda: build(None), ValueError, "items must be a path or an iterable of items or rows, found NoneType"),
        (lambda: build(items, num_proc="2"), TypeError, "num_proc must be of type int, such as 1; found '2'"),
        (lambda: selector.score(["gel pen"]), TypeError, "tokens must be RaggedTokens, found list"),
        (lambda: CatalogCollator("x", PlainItems()), TypeError, r"catalog must be an ItemCatalog.*open.*found 'x'"),
        (lambda: CatalogCollator(object.__new__(ItemCatalog), None), TypeError, "template must be a PlainItems"),
        (lambda: train(*learn[:4], None), TypeError, "output must be a folder, such as 'run'; found None"),
        (lambda: build(items, budgets=8), TypeError, "unexpected argument 'budgets'; expected .*num_proc"),
        (lambda: build(items, start_method="thread"), ValueError, "start_method must be one of .*found 'thread'"),
        (
            lambda: build(items, keep="numbers"),
            ValueError,
            r"a list of patterns.* as \['numbers'\]; found 'numbers'",
        ),
    ]


@pytest.mark.parametrize("number", range(70))
def test_a_wrong_type_is_an_error_with_the_remedy(tokenizer, causal_lm, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = calls(tokenizer, causal_lm)
    assert len(known) == 70
    call, error, message = known[number]
    with pytest.raises(error, match=message):
        call()
    assert not list(tmp_path.iterdir())


def test_budgets_selectors_and_corpora_come_in_every_form(tokenizer, tmp_path):
    corpus = RaggedTokens.from_lists(tokenizer(TEXTS, add_special_tokens=False)["input_ids"])
    selector = TokenSelector().for_tokenizer(tokenizer)
    by_ids = selector.fit(corpus).idf.clone()
    for given in (TEXTS, corpus.to_lists(), [(tokenizer, TEXTS)]):
        assert (selector.fit(given).idf == by_ids).all()
    rule = make_scorer("tfidf", tokenizer=tokenizer)
    np.testing.assert_array_equal(rule.fit(TEXTS).score(corpus), rule.fit(corpus).score(corpus))
    folder = selector.save_pretrained(tmp_path / "selector")
    for one in (selector, str(folder), folder):
        for budget in (4, np.int64(4), Budget(tokens=4)):
            cut = SelectorCollator(list, one, budget, "item_spans", tokenizer=tokenizer)
            ids = corpus[0].tolist()
            (kept,) = cut([{"input_ids": ids, "item_spans": [(0, len(ids))]}])
            assert kept["input_ids"] == wrap_tokenizer(tokenizer, one, budget)(TEXTS[0])["input_ids"]
            assert len(kept["input_ids"]) == 4


def test_numbers_are_told_to_stay_in_python(tokenizer):
    corpus = RaggedTokens.from_lists(tokenizer(TEXTS, add_special_tokens=False)["input_ids"])
    selector = TokenSelector().for_tokenizer(tokenizer).fit(corpus)
    marks = Keeping(selector, tokenizer, ["numbers"]).marks(corpus)
    assert marks.any()
    assert np.isin(np.flatnonzero(marks), selector.select(corpus, 3, protected=marks).kept).all()
