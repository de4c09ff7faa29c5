"""Time a learned selector, LLMLingua-2 and a language model's self-information on the same real items.

python -m benchmarks.llmlingua --items FILE --model DIR --python OTHER/bin/python

LLMLingua (the package ``llmlingua``) runs in an environment of its own, whose interpreter is ``--python``. Its model is
a token classifier of BERT-base's size with random weights, which times as the published one does. One thread each;
loading is not timed, and tokenising is timed apart.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.options import make_parser
from tsporec.budget import Budget
from tsporec.data.items import FIELDS, item_text, tokenize_texts
from tsporec.data.readers import read_items
from tsporec.evaluation.results_file import environment, write_results
from tsporec.scorers import make_scorer
from tsporec.selection import select
from tsporec.selector.model import TokenSelector

SEED, KEPT = 0, 16
ROOT = Path(__file__).parent.parent
NAME = "bert-base-multilingual-cased"  # llmlingua goes by the name of the folder


def make_classifier(folder: Path, texts: list[str]) -> None:
    """A WordPiece tokenizer of ``texts`` and a classifier of the size of multilingual BERT-base, random weights."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    trained = BertWordPieceTokenizer(lowercase=False)
    trained.train_from_iterator(texts, vocab_size=30_000, show_progress=False)
    BertTokenizerFast(tokenizer_object=trained._tokenizer, do_lower_case=False).save_pretrained(folder)
    torch.manual_seed(SEED)
    BertForTokenClassification(BertConfig(vocab_size=119_547, num_labels=2)).save_pretrained(folder)


def peer(texts: list[str], folder: Path) -> dict[str, float]:
    """LLMLingua-2 on each text by itself; run by the interpreter that has it."""
    import tiktoken

    class Words:
        """In place of the encoding that the package would download to count tokens for its report."""

        def encode(self, text: str, **options: Any) -> list[str]:
            return text.split()

    tiktoken.encoding_for_model = lambda name: Words()
    from llmlingua import PromptCompressor

    torch.set_num_threads(1)
    compressor = PromptCompressor(str(folder), device_map="cpu", use_llmlingua2=True)
    compressor.compress_prompt([texts[0]], rate=0.3)
    began, used = time.perf_counter(), time.process_time()
    for text in texts:
        compressor.compress_prompt([text], rate=0.3)
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used, "items": len(texts)}


def timed(call: Callable[[], Any], rounds: int) -> dict[str, float]:
    """The quickest of some rounds, by the clock and by the processor's time."""
    times = []
    for _ in range(rounds):
        began, used = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - began, time.process_time() - used))
    seconds, cpu_seconds = np.min(times, axis=0).tolist()
    return {"seconds": seconds, "cpu_seconds": cpu_seconds}


def main() -> None:
    """Measure all three, print and write."""
    parser = make_parser(__doc__, "llmlingua.json", data=False)
    parser.add_argument("--items", type=Path, required=True, help="a catalogue file")
    parser.add_argument("--model", required=True, help="a causal LM and its tokenizer")
    parser.add_argument("--python", required=True, help="the interpreter of an environment that has llmlingua")
    parser.add_argument("--count", type=int, default=500, help="items, the first that have text")
    parser.add_argument("--read", type=int, default=50, help="of them, items that the language model reads")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(peer(json.loads((options.peer / "texts.json").read_bytes()), options.peer / NAME)))
        return
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    origin = environment(SEED)
    texts = [text for item in read_items(options.items) if (text := item_text(item, FIELDS))][: options.count]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokens = tokenize_texts(texts, tokenizer)
    torch.manual_seed(SEED)
    selector = TokenSelector().for_tokenizer(tokenizer).fit(tokens)
    torch.nn.init.normal_(selector.network.out.weight)
    select(selector, tokens, Budget(tokens=KEPT))
    results: dict[str, dict[str, float]] = {
        "tokenise": {"items": len(texts), **timed(lambda: tokenize_texts(texts, tokenizer), 5)},
        "selector": {"items": len(texts), **timed(lambda: select(selector, tokens, Budget(tokens=KEPT)), 9)},
    }
    few = tokens.take(np.arange(min(options.read, len(texts))))
    reader = make_scorer("self_information", model=AutoModelForCausalLM.from_pretrained(options.model))
    results["self_information"] = {
        "items": len(few), **timed(lambda: select(reader, few, Budget(tokens=KEPT)), 1)
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        make_classifier(Path(folder) / NAME, texts)
        command = [options.python, "-m", "benchmarks.llmlingua", "--peer", folder]
        command += ["--items", str(options.items), "--model", options.model, "--python", options.python]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        results["llmlingua2"] = json.loads(done.stdout.strip().splitlines()[-1])
    for row in results.values():
        row["items_per_second"] = row["items"] / row["seconds"]
        row["items_per_cpu_second"] = row["items"] / row["cpu_seconds"]
    ours = results["selector"]["items_per_cpu_second"]
    for name, row in results.items():
        times = ours / row["items_per_cpu_second"]
        print(f"{name}: {row['items_per_second']:.1f} items/s, selector is {times:.0f} times faster", file=sys.stderr)
    load = round(os.getloadavg()[0], 1)
    measured = {"tokens": tokens.num_tokens, "load_average": load, "results": results}
    write_results(options.output, measured, origin)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
