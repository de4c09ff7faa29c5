"""Measure what scoring costs: speed beside a language model's, binding, loading, memory.

python -m benchmarks.selector --data DIR --model DIR

On one core, on the whole texts of Office Products (title and description): 1,024 items at once, and one of
128 tokens at a time; medians. The rule is the bundled selector. The network has random weights, which cost what learned
ones do. The time of a language model is measured on a sample and given by token. Binding, loading and memory are
measured in separate processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.datasets import CATEGORIES, read_task
from benchmarks.options import make_parser
from benchmarks.timing import median_seconds
from tsporec.evaluation.results_file import environment, write_results
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

IDS = 150_000
LOAD = (
    "import time, torch; start = time.perf_counter(); from tsporec import TokenSelector; "
    "TokenSelector.from_pretrained('tsporec/base'); print(time.perf_counter() - start)"
)


def make_selector(network: bool) -> TokenSelector:
    """Load the bundled selector; with ``network``, give its network random weights."""
    selector = TokenSelector.from_pretrained()
    if network:
        torch.nn.init.normal_(selector.network.out.weight, generator=torch.Generator().manual_seed(0))
    return selector


def larger_tokenizer(model: str) -> Any:
    """Make the model's tokenizer with more words, 150,000 ids in all."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    core = json.loads(AutoTokenizer.from_pretrained(model).backend_tokenizer.to_str())
    letters, rng = np.array(list("abcdefghijklmnopqrstuvwxyz")), np.random.default_rng(0)
    vocabulary = core["model"]["vocab"]
    while len(vocabulary) < IDS:
        vocabulary.setdefault("Ġ" + "".join(rng.choice(letters, rng.integers(4, 12))), len(vocabulary))
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(core)))


def part(options: argparse.Namespace) -> dict[str, float]:
    """Measure binding to 150,000 ids, or the memory that scoring takes over the table; in this process, once."""
    torch.set_num_threads(1)
    selector = make_selector(network=True)
    if options.part == "bind":
        tokenizer = larger_tokenizer(options.model)
        tokenizer("warm up")
        start, used = time.perf_counter(), time.process_time()
        selector.for_tokenizer(tokenizer)
        return {"seconds": time.perf_counter() - start, "cpu seconds": time.process_time() - used}
    from transformers import AutoTokenizer

    tokens = RaggedTokens.from_padded(*np.load(options.work / "tokens.npy"))
    bound = selector.for_tokenizer(AutoTokenizer.from_pretrained(options.model))
    bound.score(tokens.take([0]))
    # Making the table took more than scoring will: the peak is forgotten (Linux only), or it would hide scoring's.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    bound.score(tokens)
    return {"megabytes": (resident("VmHWM") - before) / 1024}


def resident(name: str) -> int:
    """VmRSS or VmHWM of this process, in KiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def in_process(name: str, options: argparse.Namespace, rounds: int) -> dict[str, float]:
    """Medians of :func:`part` in separate processes."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.selector", "--part", name, "--model", options.model]
    command += ["--data", str(options.data), "--work", str(options.work)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(rounds)]
    found = [json.loads(run.stdout.strip().splitlines()[-1]) for run in runs]
    return {key: statistics.median(run[key] for run in found) for key in found[0]}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything."""
    from tsporec.language_model import cut_layers, load_causal_lm
    from tsporec.recommenders.encoder import ItemEncoder

    torch.set_num_threads(1)
    lm, tokenizer = load_causal_lm(options.model)
    tokens = read_task(options.data, CATEGORIES[0], tokenizer).tokens
    options.work.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    batch = tokens.take(rng.permutation(len(tokens))[:1024])
    np.save(options.work / "tokens.npy", np.stack(batch.to_padded()))
    long = rng.permutation(np.flatnonzero(tokens.lengths >= 128))[:100]
    single = [RaggedTokens(tokens[i][:128], np.array([0, 128], dtype=np.int32)) for i in long]
    rows: list[dict[str, Any]] = []
    for network in (True, False):
        bound, turn = make_selector(network).for_tokenizer(tokenizer), iter(single * 10)
        bound.score(batch)  # makes the table
        rows.append({
            "scores by": "network" if network else "rule",
            "tokens/s, 1,024 items": batch.num_tokens / median_seconds(lambda b=bound: b.score(batch), 9),
            "tokens/s, 1 x 128": 128 / median_seconds(lambda b=bound, t=turn: b.score(next(t)), 500),
        })  # fmt: skip
        print(rows[-1], flush=True)
    models = []
    for layers in (4, len(lm.model.layers)):
        sample = batch.take(range(256 // layers))
        encoder = ItemEncoder(cut_layers(lm, layers))
        encoder.encode(sample)
        seconds = median_seconds(lambda e=encoder, s=sample: e.encode(s), 3)
        models.append({"layers": layers, "sampled tokens": sample.num_tokens, "tokens/s": sample.num_tokens / seconds})
        models[-1]["network's share of its time"] = models[-1]["tokens/s"] / rows[0]["tokens/s, 1,024 items"]
        print(models[-1], flush=True)
    loads = [
        float(subprocess.run([sys.executable, "-c", LOAD], check=True, capture_output=True).stdout) for _ in "12345"
    ]
    return {
        "speed": rows, "language model": models,
        "load_seconds": statistics.median(loads),
        "bind_150000": in_process("bind", options, 3),
        "peak_memory_over_table": in_process("memory", options, 1),
    }  # fmt: skip


def main() -> None:
    """Measure and write the results file, or (``--part``) measure one thing."""
    parser = make_parser(__doc__, "selector.json")
    parser.add_argument("--work", type=Path, default=Path("selector-benchmark"), help="a folder for what parts share")
    parser.add_argument("--part", choices=["bind", "memory"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(part(options)))
        return
    origin = environment(0)
    results = measure(options)
    print(json.dumps(results, indent=1))
    write_results(options.output, results, origin)


if __name__ == "__main__":
    main()
