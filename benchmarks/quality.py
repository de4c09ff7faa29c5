"""Measure what selections are worth to a recommender: one results file a cell, which ``benchmarks.report`` reads.

python -m benchmarks.quality --data DIR --model DIR --output benchmarks/results/quality --cache DIR

A cell is a catalogue, a case, a scorer and a budget. Each of ``--seeds`` is a fit of a recommender to what the scorer
keeps. A fit that is in the file is skipped, so a run may be cut off and started again. Processes that share
``--output`` and ``--cache`` share the work: each skips the cells that another one is at. ``--list`` shows what is done.

Case ``embedding``: the recommender of :mod:`tsporec.recommenders.embedding`. Texts are whole, title and description.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.cells import Cell, add_fit, locked, measured, read_cell, seeds_of, write_rows
from benchmarks.datasets import CATALOGUES, read_task
from benchmarks.learned import learned
from benchmarks.options import comma_separated, make_parser, whole_numbers
from tsporec._internal.digest import digest
from tsporec.data.items import FIELDS
from tsporec.evaluation.evaluator import FULL, Evaluator
from tsporec.evaluation.results import environment
from tsporec.evaluation.task import Task
from tsporec.language_model import cut_layers, load_causal_lm
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer, make_scorer
from tsporec.scorers.repeats import WithoutRepeats
from tsporec.selector.model import TokenSelector

LAYERS = 4
"""First layers of the language model, which the recommender reads items with."""
READERS = ("self_information", "attention", "centroid")
"""Scorers that read the catalogue with a language model, which takes from minutes to hours."""
SEEDED = ("random", "selector")
"""Scorers that differ by seed."""
CASES = ("embedding",)
SCORERS = ("head", "random", "tfidf", *READERS, "rule", "selector", FULL)
BUDGETS = (2, 4, 8, 16, 32)


class Suite:
    """Measure cells of one catalogue.

    Parameters
    ----------
    name : str
        The catalogue's name.
    task : Task
    lm, tokenizer
        The whole language model and its tokenizer.
    cache : Path
        Scores and vectors are kept here, and lock files.
    config : EmbeddingConfig, optional
    dtype : torch.dtype
        Type that self-information's language model computes in. Default: float32.
    rows : "test" or "last"
        How the rows of ``task`` were made, for the cells.
    """

    def __init__(
        self,
        name: str,
        task: Task,
        lm: Any,
        tokenizer: Any,
        cache: Path,
        config: EmbeddingConfig | None = None,
        dtype: torch.dtype = torch.float32,
        rows: str = "test",
    ) -> None:
        self.name, self.task, self.lm, self.tokenizer, self.cache, self.dtype = name, task, lm, tokenizer, cache, dtype
        self.config, self.rows = config or EmbeddingConfig(), rows
        self.cut = cut_layers(lm, min(LAYERS, lm.config.num_hidden_layers))
        self.evaluator = Evaluator(task, ItemEncoder(self.cut), self.config, cache=cache)
        self.known: dict[str, Scorer] = {}

    def settings(self, cell: Cell) -> dict[str, Any]:
        """Return what decides a cell's figures, beside seeds and code."""
        recommender = asdict(self.config)
        del recommender["seed"]
        found = {
            **asdict(cell), "rows": self.rows, "data": self.task.fingerprint, "fields": list(FIELDS),
            "encoder": self.evaluator.encoder.fingerprint, "layers": self.cut.config.num_hidden_layers,
            "recommender": recommender,
        }  # fmt: skip
        if cell.scorer in READERS:
            found["scorer_layers"] = self._reader(cell.scorer).config.num_hidden_layers
            found["scorer_dtype"] = str(self._reader(cell.scorer).dtype).removeprefix("torch.")
        return found

    def run(self, cell: Cell, seeds: Sequence[int], folder: Path, origin: dict[str, Any]) -> bool:
        """Measure a cell with each seed that its file lacks. Return False if another process is at it."""
        with locked(self.cache / "locks" / cell.name) as ours:
            if not ours:
                return False
            settings = self.settings(cell)
            for seed in seeds:
                if seed in seeds_of(folder, cell, settings):
                    continue
                start, cpu = time.perf_counter(), time.process_time()
                scorer = self.scorer(cell, seed)
                made = time.perf_counter() - start
                if cell.scorer in READERS:
                    with locked(self.cache / "locks" / f"{cell.catalogue}-{cell.scorer}") as ours:
                        if not ours:  # another process reads the catalogue with it now
                            return False
                        self.evaluator.scores(scorer)
                fit = self.fit(scorer, cell.budget, seed)
                fit["seconds"] = {"learn": made, **fit["seconds"], "cpu": time.process_time() - cpu}
                add_fit(folder, cell, settings, fit, origin)
                ndcg = fit["metrics"]["ndcg@10"]
                print(f"{cell.name} seed {seed}: {ndcg:.4f}, {time.perf_counter() - start:.0f} s", flush=True)
        return True

    def fit(self, scorer: Scorer | None, budget: int | None, seed: int) -> dict[str, Any]:
        """Fit a recommender to what ``scorer`` keeps and rank the task's rows."""
        found = self.evaluator.features(scorer, budget)
        vectors, start = found["vectors"], time.perf_counter()
        recommender = self.task.fit(vectors, replace(self.config, seed=seed))
        fitted = time.perf_counter() - start
        return {
            "seed": seed,
            **measured(self.task, self.task.ranks(recommender, vectors)),
            "tokens": int(found["tokens"]),
            "vectors": digest(vectors),
            "seconds": {"score": float(found["score_seconds"]), "encode": float(found["seconds"]), "fit": fitted},
        }

    def scorer(self, cell: Cell, seed: int) -> Scorer | None:
        """Make the cell's scorer. Baselines skip repeated tokens, but for head and random."""
        name = cell.scorer
        if name == FULL or cell.budget is None:
            return None
        if name == "random":
            return make_scorer(name, seed=seed)
        if name == "selector":
            return learned(self.task, self.tokenizer, cell.budget, seed)
        if name not in self.known:
            self.known[name] = self._make(name)
        return self.known[name]

    def _make(self, name: str) -> Scorer:
        if name == "rule":
            return TokenSelector.from_pretrained().for_tokenizer(self.tokenizer).fit(self.task.tokens)
        if name in READERS:
            return WithoutRepeats(make_scorer(name, model=self._reader(name)), self.tokenizer)
        options = {"tokenizer": self.tokenizer} if name == "tfidf" else {}
        return make_scorer(name, **options).fit(self.task.tokens)

    def _reader(self, name: str) -> Any:
        """Return the language model of a scorer: all layers for self-information, the recommender's for the others."""
        if name != "self_information":
            return self.cut
        if self.lm.dtype != self.dtype:
            self.lm = copy.deepcopy(self.lm).to(self.dtype)  # the recommender's layers stay as they are
        return self.lm


def plan(catalogues: Sequence[str], cases: Sequence[str], scorers: Sequence[str], budgets: Sequence[int]) -> list[Cell]:
    """List the cells in the order of the arguments; the whole text is one cell.

    >>> [cell.name for cell in plan(["films"], ["embedding"], ["head", "full"], [2, 4])]
    ['films-embedding-head-2', 'films-embedding-head-4', 'films-embedding-full-all']
    """
    return [
        Cell(catalogue, case, scorer, budget)
        for catalogue in catalogues
        for case in cases
        for scorer in scorers
        for budget in ([None] if scorer == FULL else budgets)
    ]


def work_through(cells: Sequence[Cell], run: Callable[[Cell], bool]) -> list[Cell]:
    """Run all cells, and again those that another process was at. Return what others are still at."""
    left = list(cells)
    while left and len(waiting := [cell for cell in left if not run(cell)]) < len(left):
        left = waiting
    return left


def show(folder: Path, cells: Sequence[Cell]) -> None:
    """Print the state of each cell."""
    for cell in cells:
        found = read_cell(folder, cell.name)
        if found is None:
            print(f"{cell.name}: missing")
        else:
            fits, mean = found["fits"], found["mean"]["ndcg@10"]
            commits = sorted({fit["commit"] for fit in fits})
            print(f"{cell.name}: {mean:.4f}, seeds {[fit['seed'] for fit in fits]}, commit {', '.join(commits)}")


def main() -> None:
    """Measure the cells that are missing, or list them."""
    parser = make_parser(__doc__, seeds=[0, 1, 2])
    parser.add_argument("--cache", type=Path, required=True, help="folder for scores, vectors and lock files")
    parser.add_argument("--catalogues", type=comma_separated, default=list(CATALOGUES))
    parser.add_argument("--cases", type=comma_separated, default=list(CASES))
    parser.add_argument("--scorers", type=comma_separated, default=list(SCORERS))
    parser.add_argument("--budgets", type=whole_numbers, default=list(BUDGETS))
    parser.add_argument("--rows", choices=["test", "last"], default="test",
                        help="test rows, or the last item of each training user, for choices")  # fmt: skip
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32",
                        help="type that self-information's language model computes in")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="show what is done, and measure nothing")
    options = parser.parse_args()
    cells = plan(options.catalogues, options.cases, options.scorers, options.budgets)
    if options.list:
        return show(options.output, cells)
    origin = environment(options.seeds[0])
    lm, tokenizer = load_causal_lm(options.model)
    for name in options.catalogues:
        task = read_task(options.data, name, tokenizer)
        task = task.last_items() if options.rows == "last" else task
        suite = Suite(name, task, lm, tokenizer, options.cache, None, getattr(torch, options.dtype), options.rows)
        write_rows(
            options.output, f"{name}-{CASES[0]}-rows", task, {"rows": options.rows, "data": task.fingerprint}, origin
        )
        run = partial(suite.run, seeds=options.seeds, folder=options.output, origin=origin)
        left = work_through([cell for cell in cells if cell.catalogue == name], run)
        if left:
            print(f"{name}: another process is at {', '.join(cell.name for cell in left)}", flush=True)
    return None


if __name__ == "__main__":
    main()
