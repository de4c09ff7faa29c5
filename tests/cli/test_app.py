from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import typer

from tests.cli.conftest import evaluate_arguments, run, train_arguments
from tests.conftest import TEXTS
from tsporec.cli import demo as demo_module
from tsporec.cli import hub as cli_hub
from tsporec.cli.options import clean_errors, numbers
from tsporec.data.synthetic import CatalogueConfig, generate
from tsporec.selector import files as selector_files
from tsporec.selector import hub
from tsporec.selector.model import SelectorConfig, TokenSelector


def test_evaluate_prints_a_table_and_writes_results(files, tmp_path):
    every = "head,random,tfidf,self_information,attention,centroid,selector,full"
    result = run(
        *evaluate_arguments(files), "--budget", "2,4", "--scorers", every, "--layers", 1, "--seeds", "0,1",
        "--output", tmp_path / "r.json", "--plot", tmp_path / "p.svg", "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "self_information" in result.stdout
    table = [line for line in result.stdout.splitlines() if not line.startswith(("next:", "plot", "results"))]
    assert max(map(len, table)) <= 80
    assert "tokens" in result.stdout
    assert "next: tsporec compress --items" in result.stdout
    written = json.loads((tmp_path / "r.json").read_text())
    assert len(written["cells"]) == 2 * 7 + 1
    assert written["settings"]["format"] == {"items": "plain", "interactions": "plain"}
    assert written["settings"]["split"] == "last-item"
    assert written["settings"]["selector"]["name"] == "tsporec/base"
    assert written["verdicts"]["adapted"]["scorer"] == "selector"
    assert "<svg" in (tmp_path / "p.svg").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--items", "nowhere.item.json"], "there is no such file"),
        (["--model", "/nowhere"], "there is no such folder, and no such name on the Hub"),
        (["--budget", "0"], "--budget takes whole numbers of at least 1"),
        (["--budget", "many"], "--budget takes whole numbers of at least 1"),
        (["--items", "nowhere"], "there is no such file"),
        (["--scorers", "best"], "there is no scorer 'best'"),
        (["--scorers", ","], "--scorers takes one or more names"),
        (["--cases", ""], "--cases takes one or more names"),
        (["--scorers", "llmlingua2"], "needs a checkpoint"),
        (["--format", "xml"], "there is no format 'xml'"),
        (
            ["--fields", "colour"],
            "no item has text in the fields ['colour']; found description, title. Name those that",
        ),
        (
            ["--id-field", "asin"],
            "found ['id', 'title', 'description']: rename one, or name that of the items' ids with --id-field.",
        ),
        (
            ["--scorers", "head,full", "--selector", "tsporec/base"],
            "--selector is given, but the scorers are head, full",
        ),
        (["--scorers", "head", "--margin", "0.1"], "add full to --scorers"),
        (["--split", "random"], "a split is one of last-item, time; found 'random'"),
        (["--device", "warp"], "--device warp: "),
        (["--plot", "plot.txt"], "a plot is a .png or .svg file; found plot.txt"),
    ],
)
def test_bad_input_is_one_line_and_code_2(files, tmp_path, change, message):
    result = run(*evaluate_arguments(files), *change, "--output", tmp_path / "r.json")
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_train_leaves_a_selector_and_refuses_other_arguments(files, tmp_path):
    pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    arguments = [*train_arguments(files), "--no-verdict", "--output", tmp_path / "run"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "round 1:" in result.output
    assert (tmp_path / "run" / "selector" / "config.json").exists()
    result = run(*arguments, "--seed", 1, "--budget", 4, "--weighting", "idf", "--keep", "numbers")
    assert result.exit_code == 2
    told = (
        '--budget was ["3"], is now ["4"]; --weighting was ["tfidf", "placed"], is now ["idf"]; --keep was [], is now '
        '["numbers"]; --seed was 0, is now 1. Give another folder'
    )
    assert told in result.stderr
    result = run(*arguments, "--output", tmp_path / "placed", "--weighting", "placed", "--distinct", "none")
    assert result.exit_code == 0, result.output
    assert "started from placed\n" in result.output
    config = json.loads((tmp_path / "placed" / "selector" / "config.json").read_text())
    assert config["weighting"] == "placed"
    result = run(*arguments, "--output", tmp_path / "tried", "--weighting", "idf,tfidf")
    assert "tfidf, distinct 1.2: NDCG@10" in result.output
    result = run(*arguments, "--output", tmp_path / "wrong", "--distinct", "much")
    assert "--distinct takes numbers of at least 0, comma-separated, or none; found 'much'" in result.output


def test_train_ends_with_a_verdict(files, tmp_path):
    pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    result = run(*train_arguments(files), "--seeds", "0,1", "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    for row in ("head", "idf", "untrained", "selector", "full"):
        assert f"\n {row} " in result.stdout
    assert "3 tokens keep" in result.stdout.replace("\n", " ")
    assert "% of the items keep tokens that no item of another text keeps." in result.stdout.replace("\n", " ")
    assert f"next: tsporec compress --items {files / 'items.jsonl'}" in result.stdout
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert written["settings"]["split"] == "last-item"
    assert written["settings"]["selector"]["fingerprint"]
    assert written["verdicts"]["adapted"]["seeds"] == 2
    assert written["environment"]["versions"]["tsporec"]
    result = run(*train_arguments(files), "--seeds", "0,1", "--output", tmp_path / "run", "--json")
    assert json.loads(result.stdout)["cells"] == written["cells"]


def test_a_split_in_files_is_the_split_of_the_command(files, tmp_path):
    def cells(*data):
        result = run(
            "evaluate", "--items", files / "items.jsonl", "--model", files / "model", *data, "--budget", 2,
            "--scorers", "head,full", "--seeds", 0, "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        return [cell["metrics"] for cell in json.loads(result.stdout)["cells"]]

    whole = files / "interactions.csv"
    for how in ("last-item", "time"):
        done = run("split", "--interactions", whole, "--split", how, "--output", tmp_path / how)
        assert done.exit_code == 0, done.output
        parts = tmp_path / how / "train.csv", tmp_path / how / "test.csv"
        assert cells("--interactions", parts[0], "--test", parts[1]) == cells("--interactions", whole, "--split", how)
    assert "test.csv: 20 interactions of 20 users" in run(
        "split", "--interactions", whole, "--output", tmp_path / "again"
    ).stdout.replace("\n", " ")
    (tmp_path / "one.csv").write_text("user_id,item_id\nu,1\nv,2\n")
    alone = run(*evaluate_arguments(files), "--interactions", tmp_path / "one.csv")
    assert "error: none of 0 test rows has a history and an item that is new" in alone.stderr
    for test, message in ((whole, "20 of 20 test sequences stand in the training"), (parts[1], "leave one out")):
        more = [] if test == whole else ["--split", "time"]
        refused = run(*evaluate_arguments(files), "--test", test, *more)
        assert refused.exit_code == 2
        assert message in refused.stderr


def test_a_margin_is_a_gate(files):
    common = [*evaluate_arguments(files), "--budget", 2, "--seeds", 0, "--scorers", "head,full"]
    assert run(*common, "--margin", 1).exit_code == 0
    untold = run(*common, "--margin", 0.3)  # by 20 rows, with old and new versions
    assert untold.exit_code == 4
    assert "test rows and 1 seed cannot tell what 2 tokens lose (--margin)" in untold.stderr
    failed = run(*common, "--margin", -1)  # no loss is below this
    assert failed.exit_code == 3
    assert "error: 2 tokens lose more than -100.0% of the whole text's NDCG@10 (--margin)" in failed.stderr
    assert "next: tsporec train --items" in failed.stdout


def test_version_doctor_and_an_interrupt(monkeypatch, tmp_path):
    assert run("--version").stdout.startswith("tsporec ")
    told = run("doctor")
    assert told.exit_code == 0, told.output
    for part in ("torch ", "extra cli: ", "top-k: numpy on the CPU", "tsporec/base, bundled"):
        assert part in told.stdout

    def train() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as stopped:
        clean_errors(train)()
    assert stopped.value.exit_code == 130


def test_show_marks_what_is_kept(files):
    common = ["show", "--items", files / "items.jsonl", "--model", files / "model", "--item", 5, "--scorer", "head"]
    result = run(*common, "--budget", 3)
    assert result.exit_code == 0, result.output
    assert "[Caf" in result.output
    result = run("show", "--items", files / "items.jsonl", "--model", files / "model", "--item", 99)
    assert result.exit_code == 2
    assert "no item '99'" in result.output
    assert "→ Café crème notebook" in run(*common, "--ratio", 0.5).stdout
    assert "leave one out" in run(*common, "--ratio", 0.5, "--budget", 4).stderr
    assert "→ Café 80 sheets" not in run(*common, "--budget", 6).stdout
    assert " 80" in run(*common, "--budget", 3, "--keep", "numbers").stdout.split("→")[1].splitlines()[0]
    assert "add selector or leave it out" in run(*common, "--selector", "tsporec/base").stderr
    assert run(*common, "--selector", "tsporec/base", "--scorer", "untrained").exit_code == 0
    assert "--fields takes one or more names" in run(*common, "--fields", ",").stderr
    assert "--scorer takes one or more names" in run(*common, "--scorer", ",").stderr


def test_show_compares_scorers_of_one_item_and_writes_a_page_and_a_picture(files, tmp_path):
    common = ["show", "--items", files / "items.jsonl", "--model", files / "model", "--budget", 6]
    shown = run(*common, "--item", 5)
    assert shown.exit_code == 0, shown.output
    assert [line.split()[0] for line in shown.stdout.splitlines() if line[:1].isalnum()] == [
        "5", "whole", "head", "tfidf", "selector", "word",
    ]  # fmt: skip
    assert shown.stdout.splitlines()[-1] == "word frequencies of the selector: counted from 12 texts"
    several = run(*common, "--item", 5, "--budget", "4,6", "--scorer", "head,tfidf").stdout.splitlines()
    rows = [line[:8].strip() for line in several if line[:4] in ("head", "tfid")]
    assert rows == ["head 4", "head 6", "tfidf 4", "tfidf 6"]
    assert "→" in run(*common).stdout, "three items: one scorer"
    done = run(*common, "--html", tmp_path / "a.html", "--svg", tmp_path / "a.svg", "--granularity", "word")
    assert done.exit_code == 0, done.output
    assert f"page of 12 items written to {tmp_path / 'a.html'}" in done.stdout
    page, picture = (tmp_path / "a.html").read_text(), (tmp_path / "a.svg").read_text()
    assert page.startswith("<!doctype html>")
    assert '"scorers":["head","tfidf","selector"]' in page
    assert "selector</text>" in picture
    assert "give --budget in place of --ratio" in run(*common[:-2], "--ratio", 0.5, "--html", "a.html").stderr
    refused = run("show", "--catalog", tmp_path, "--model", files / "model", "--html", tmp_path / "b.html")
    assert "leave out --ratio, --html and --svg" in refused.stderr


def test_commands_take_a_learned_selector(files, tmp_path):
    """Its folder, with the weights that were learned for items."""
    from tsporec.catalog.catalog import ItemCatalog
    from tsporec.language_model import load_tokenizer
    from tsporec.tokens.ragged import RaggedTokens

    tokenizer = load_tokenizer(files / "model")
    bound = TokenSelector(SelectorConfig(dim=4, hidden=4, surface_buckets=64)).for_tokenizer(tokenizer)
    corpus = RaggedTokens.from_lists(tokenizer([f"{TEXTS[5]}\n{TEXTS[0]}"], add_special_tokens=False)["input_ids"])
    known = bound.with_item_weights(corpus)
    last = np.arange(corpus.num_tokens, dtype=np.float32)  # unlike any rule, it keeps the last tokens
    known.set_item_scores(corpus, last).save_pretrained(tmp_path / "mine")
    common = ["--items", files / "items.jsonl", "--model", files / "model"]
    shown = run("show", *common, "--item", 5, "--item", 6, "--budget", 2, "--selector", tmp_path / "mine")
    assert shown.exit_code == 0, shown.output
    assert "[12] [pack]\n→ 12 pack" in shown.output
    alone = run("show", *common, "--item", 5, "--budget", 2, "--selector", tmp_path / "mine")
    assert "selector  12 pack " in alone.output
    done = run("compress", *common, "--budget", 2, "--selector", tmp_path / "mine", "--output", tmp_path / "store")
    assert done.exit_code == 0, done.output
    kept = ItemCatalog.open(tmp_path / "store").lookup(["5"])
    assert kept.ids.tolist() == corpus.ids[-2:].tolist()
    evaluated = run(*evaluate_arguments(files), "--scorers", "selector", "--budget", 2, "--selector", tmp_path / "mine")
    assert evaluated.exit_code == 0, evaluated.output


def test_demo_runs_the_whole_job(tmp_path, monkeypatch):
    small = generate(CatalogueConfig(items=60, users=80, tastes=6, mentions=8, words_per_taste=3, sequence=5))
    monkeypatch.setattr(demo_module, "generate", lambda config: small)
    result = run("demo", "--output", tmp_path / "demo.json", "--budget", 3)
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "demo.json").read_text())
    assert written["planted_recall"]["head"] == 0.0, "the planted words stand deep in the text"
    assert {cell["scorer"] for cell in written["cells"]} == {*written["planted_recall"], "full"}


def test_show_has_no_checkpoint_for_llmlingua2(files):
    common = ["--items", files / "items.jsonl", "--model", files / "model"]
    result = run("show", *common, "--scorer", "llmlingua2")
    assert result.exit_code == 2
    assert "show does not take the scorer llmlingua2" in result.output


def test_a_fault_of_the_library_keeps_its_traceback():
    def theirs() -> None:
        np.zeros(2) + np.zeros(3)

    def ours() -> None:
        numbers("x", "--budget", least=1)

    with pytest.raises(ValueError, match="broadcast"):
        clean_errors(theirs)()
    with pytest.raises(typer.Exit):
        clean_errors(ours)()


@pytest.mark.parametrize("more", [[], ["--svg", "kept.svg"]])
def test_ids_are_printed_as_they_are(tmp_path, files, more, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.jsonl").write_text(json.dumps({"id": "[red]12[/red]\x1b[2J", "title": TEXTS[0]}) + "\n")
    shown = run("show", "--items", tmp_path / "items.jsonl", "--model", files / "model", "--budget", 2, *more)
    assert shown.exit_code == 0, shown.output
    assert "[red]12[/red] [2J" in shown.output


def test_names_of_files_are_no_markup(tmp_path, files):
    (tmp_path / "items.jsonl").write_text(json.dumps({"id": "1", "title": TEXTS[0]}) + "\n")
    out = tmp_path / "[red]out :pen:"
    made = run("compress", "--items", tmp_path / "items.jsonl", "--model", files / "model", "--output", out)
    assert made.exit_code == 0, made.output
    assert "[red]out :pen:" in made.output.replace("\n", "")
    missing = run("show", "--items", tmp_path / "[/]\x1b[2J.jsonl", "--model", files / "model")
    assert missing.exit_code == 2
    assert "[/] [2J.jsonl: there is no such file" in missing.output


def test_help_is_quick_and_lists_the_commands():
    code = "import sys; from tsporec.cli import main; sys.argv = ['tsporec', '--help']; main()"
    out = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False)
    for command in ("demo", "train", "evaluate", "show"):
        assert command in out.stdout
    assert "transformers" not in out.stderr


def test_a_missing_extra_is_one_line(monkeypatch, tmp_path):
    from tsporec._internal.extras import require

    with pytest.raises(ImportError, match=r'Run: pip install "tsporec\[viz\]"'):
        require("no_such_module_at_all", extra="viz")


# -- sharing


def test_card_is_printed_and_written(tmp_path):
    TokenSelector(SelectorConfig(dim=4, hidden=4, training={"summary": "Mine."})).save_pretrained(tmp_path)
    result = run("card", tmp_path, "--name", "me/mine")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("---\nlibrary_name")
    assert 'from_pretrained("me/mine")' in result.output
    assert run("card", tmp_path, "--name", "me/mine", "--write").exit_code == 0
    assert (tmp_path / "README.md").read_text() == result.output
    assert run("card", tmp_path).output == result.output, "the name stays"
    (tmp_path / "README.md").write_text(result.output.replace("Mine.", "Mine, as you see."))
    assert run("card", tmp_path, "--write").exit_code == 0
    assert (tmp_path / "README.md").read_text() == result.output
    assert run("card", tmp_path / "nothing").exit_code == 2
    (tmp_path / "empty").mkdir()
    assert "has no config.json; expected" in run("card", tmp_path / "empty").output


def test_the_card_in_the_package_is_not_written(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tsporec" / "base").mkdir(parents=True)  # the bundled one comes first
    before = (hub.BUNDLED / "base" / "README.md").read_bytes()
    for name in ("tsporec/base", hub.BUNDLED / "base"):
        result = run("card", name, "--name", "me/mine", "--write")
        assert result.exit_code == 2
        assert "is in the package" in result.output
    assert (hub.BUNDLED / "base" / "README.md").read_bytes() == before
    assert run("card", "tsporec/base").output.encode() == before


def test_metrics_that_are_no_numbers_are_not_on_the_card(tmp_path):
    folder = TokenSelector(SelectorConfig(dim=4, hidden=4)).save_pretrained(tmp_path)
    report = {"pairs": 3, "kept": True, "learned": "network"}
    rounds = [{**report, "accuracy": float("nan"), "quality": None}, {**report, "accuracy": 0.5, "quality": 0.25}]
    cli_hub.record_training(folder, rounds, {}, None)
    config = selector_files.read_config(folder / selector_files.CONFIG).config
    assert [row["held-out accuracy"] for row in config.training["metrics"]] == [None, 0.5]
    assert "| 1 | 3 |  |  | yes | network |\n| 2 | 3 | 0.5000 | 0.2500 | yes |" in (folder / "README.md").read_text()


def test_push_and_train_push(files, tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    pushed = []
    monkeypatch.setattr(hub, "push", lambda folder, repo, **options: pushed.append((folder, repo, options)) or "there")
    result = run("push", tmp_path, "me/mine", "--message", "First", "--private", "--create-pr")
    assert result.output == "pushed: there\n"
    options = {"commit_message": "First", "revision": None, "private": True, "create_pr": True}
    assert pushed.pop() == (tmp_path, "me/mine", options)
    arguments = [*train_arguments(files), "--no-verdict", "--push-to-hub", "me/mine", "--output"]
    folder = tmp_path / "run" / "selector"
    result = run(*arguments, tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert pushed.pop() == (folder, "me/mine", {})
    card = (folder / "README.md").read_text()
    assert "- Texts: items.jsonl (12 items); interactions.csv (20 sequences)" in card
    assert "| round | pairs | held-out accuracy |" in card
    saved, weights, item_weights = hub.load(folder)
    assert saved.config.training["budgets"] == ["3 tokens"]
    assert saved.item_weights["items"] == 6
    assert item_weights.weight.any()
    assert set(weights) == {"blend", "idf"}
    assert "pushed: there\n" in result.output
    assert "learned weights for the words of 6 items" in card
    assert "| 1 |" in card
