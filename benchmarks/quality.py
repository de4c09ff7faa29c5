"""Measure what selections are worth to a recommender: one results file a cell, which ``benchmarks.report`` reads.

python -m benchmarks.quality --data DIR --model DIR --output benchmarks/results/quality --cache DIR

A cell is a catalogue, a case, a scorer and a budget. Each of ``--seeds`` is a fit of a recommender to what the scorer
keeps. A fit that is in the file is skipped, so a run may be cut off and started again. Processes that share
``--output`` and ``--cache`` share the work: each skips the cells that another one is at. ``--list`` shows what is done.

Case ``embedding`` (:mod:`benchmarks.embedding`) reads item vectors, case ``generative`` (:mod:`benchmarks.generative`)
prompts. Texts are whole, title and description.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.cells import Cell, add_fit, locked, read_cell, seeds_of, write_rows
from benchmarks.datasets import CATALOGUES, read_catalogue, read_task
from benchmarks.embedding import Embedding
from benchmarks.generative import TOTAL, Generative, GenerativeConfig
from benchmarks.learned import RECIPE, Learner
from benchmarks.options import comma_separated, make_parser, whole_numbers
from tsporec.data.items import FIELDS
from tsporec.evaluation.evaluator import FULL, Evaluator
from tsporec.evaluation.results_file import environment
from tsporec.evaluation.task import Task
from tsporec.language_model import cut_layers, load_causal_lm
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer, make_scorer
from tsporec.scorers.without_repeats import WithoutRepeats
from tsporec.selector.model import TokenSelector

LAYERS = 4
"""First layers of the language model, which the recommender reads items with."""
READERS = ("self_information", "attention", "centroid")
"""Scorers that read the catalogue with a language model, which takes from minutes to hours."""
CHECKPOINT = "llmlingua2"
"""A scorer that is measured only where a checkpoint of it is given."""
NEW_ITEMS, NEW_CATALOGUE = "selector_new_items", "selector_new_catalogue"
"""Selectors that have not learned from a fifth of the items, and from none of them."""
SCORERS = ("head", "random", "tfidf", *READERS, CHECKPOINT, "rule", "selector", FULL)
CASES = {"embedding": (*SCORERS, NEW_ITEMS, NEW_CATALOGUE), "generative": (*SCORERS, f"selector{TOTAL}")}
"""Case -> the scorers that it can measure."""
BUDGETS = (2, 4, 8, 16, 32)


class Case(Protocol):
    """Fit recommenders to selections in one way."""

    task: Task

    def settings(self) -> dict[str, Any]:
        """Return what decides the figures, beside the task and the scorer."""

    def fit(self, scorer: Scorer | None, cell: Cell, seed: int) -> dict[str, Any]:
        """Fit a recommender to what ``scorer`` keeps, rank the task's rows, and return the figures."""


class Suite:
    """Measure cells of one catalogue.

    Parameters
    ----------
    evaluator : Evaluator
        It holds the task and the cache.
    lm, tokenizer
        The whole language model and its tokenizer.
    cases : dict of str to Case
    others : callable
        Reads the tasks of the other catalogues.
    folder : Path
        Folder of the cells.
    origin : dict
        The environment that the cells are measured in.
    settings : dict
        What decides the figures of all cases.
    dtype : torch.dtype
        Type that self-information's language model computes in. Default: float32.
    checkpoint : folder or Hub id, optional
        The token classifier of LLMLingua-2.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        lm: Any,
        tokenizer: Any,
        cases: Mapping[str, Case],
        others: Callable[[], Mapping[str, Task]],
        folder: Path,
        origin: dict[str, Any],
        settings: dict[str, Any],
        dtype: torch.dtype = torch.float32,
        checkpoint: str | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.evaluator, self.lm, self.tokenizer, self.cases = evaluator, lm, tokenizer, cases
        self.folder, self.origin, self.shared, self.dtype = folder, origin, settings, dtype
        self.tokens, self.known, self.readers = evaluator.task.tokens, dict[str, Scorer](), dict[str, Any]()
        assert evaluator.cache is not None
        self.locks, self.others = evaluator.cache / "locks", others
        self.learner = Learner(evaluator.encoder, tokenizer, evaluator.cache / "starts")

    def settings(self, cell: Cell) -> dict[str, Any]:
        """Return what decides a cell's figures, beside seeds and code."""
        found = {**asdict(cell), **self.shared, "data": self.evaluator.task.fingerprint}
        found |= self.cases[cell.case].settings()
        if cell.scorer in READERS:
            reader = self._reader(cell.scorer)
            found["scorer_layers"] = reader.config.num_hidden_layers
            found["scorer_dtype"] = str(reader.dtype).removeprefix("torch.")
        if cell.scorer.startswith("selector"):
            found["recipe"] = RECIPE
        if cell.scorer == CHECKPOINT:
            found["checkpoint"] = str(self.checkpoint)
        return found

    def run(self, cell: Cell, seeds: Sequence[int]) -> bool:
        """Measure a cell with each seed that its file lacks. Return False if another process is at it."""
        with locked(self.locks / cell.name) as ours:
            if not ours:
                return False
            case, settings = self.cases[cell.case], self.settings(cell)
            write_rows(self.folder, cell.rows, case.task, self.shared, self.origin)
            for seed in seeds:
                if seed in seeds_of(self.folder, cell, settings):
                    continue
                start, cpu = time.perf_counter(), time.process_time()
                scorer = self.scorer(cell, seed)
                learned_in = time.perf_counter() - start
                if cell.scorer in (*READERS, CHECKPOINT):
                    with locked(self.locks / f"{cell.catalogue}-{cell.scorer}") as ours:
                        if not ours:  # another process reads the catalogue with it now
                            return False
                        self.evaluator.scores(scorer)
                fit = {"seed": seed, **case.fit(scorer, cell, seed)}
                fit["seconds"] |= {"learn": learned_in, "cpu": time.process_time() - cpu}
                add_fit(self.folder, cell, settings, fit, self.origin)
                ndcg = fit["metrics"]["ndcg@10"]
                print(f"{cell.name} seed {seed}: {ndcg:.4f}, {time.perf_counter() - start:.0f} s", flush=True)
        return True

    def scorer(self, cell: Cell, seed: int) -> Scorer | None:
        """Make the cell's scorer. Baselines skip repeated tokens, but for head and random."""
        name = cell.scorer.removesuffix(TOTAL)
        if name == FULL or cell.budget is None:
            return None
        if name == "random":
            return make_scorer(name, seed=seed)
        key = f"{name} {cell.budget}" if name.startswith("selector") else name
        if key not in self.known:
            self.known[key] = self._make(name, cell.budget)
        return self.known[key]

    def _make(self, name: str, budget: int) -> Scorer:
        if name == "selector":
            return self.learner.learn(self.evaluator.task, budget)
        if name == NEW_ITEMS:
            return self.learner.learn_before_items(self.evaluator.task, budget)
        if name == NEW_CATALOGUE:
            return self.learner.learn_elsewhere(self.evaluator.task, self.others(), budget)
        if name == "rule":
            return TokenSelector.from_pretrained().for_tokenizer(self.tokenizer).fit(self.tokens)
        if name in READERS:
            return WithoutRepeats(make_scorer(name, model=self._reader(name)), self.tokenizer)
        if name == CHECKPOINT:
            scorer = make_scorer(name, model=self.checkpoint).for_tokenizer(self.tokenizer)
            return WithoutRepeats(scorer, self.tokenizer)
        options = {"tokenizer": self.tokenizer} if name == "tfidf" else {}
        return make_scorer(name, **options).fit(self.tokens)

    def _reader(self, name: str) -> Any:
        """Return the language model of a scorer: all layers for self-information, the recommender's for the others."""
        if name not in self.readers:
            whole = name == "self_information"
            cast = whole and self.lm.dtype != self.dtype
            lm = copy.deepcopy(self.lm).to(self.dtype) if cast else self.lm
            self.readers[name] = lm if whole else cut(lm)
        return self.readers[name]


def cut(lm: Any) -> Any:
    """Return the layers that the recommender reads items with."""
    return cut_layers(lm, min(LAYERS, lm.config.num_hidden_layers))


def plan(
    catalogues: Sequence[str], cases: Sequence[str], scorers: Sequence[str] | None, budgets: Sequence[int]
) -> list[Cell]:
    """List the cells in the order of the arguments; the whole text is one cell. None stands for a case's scorers.

    >>> [cell.name for cell in plan(["films"], ["embedding"], ["head", "full"], [2, 4])]
    ['films-embedding-head-2', 'films-embedding-head-4', 'films-embedding-full-all']

    Raises
    ------
    ValueError
        If a case or a scorer is not known.
    """
    for name in cases:
        if name not in CASES:
            raise ValueError(f"there is no case {name!r}; expected one of {', '.join(CASES)}.")
        if wrong := [scorer for scorer in scorers or () if scorer not in CASES[name]]:
            raise ValueError(f"case {name} has no scorer {wrong[0]!r}; expected one of {', '.join(CASES[name])}.")
    return [
        Cell(catalogue, case, scorer, budget)
        for catalogue in catalogues
        for case in cases
        for scorer in (scorers or CASES[case])
        for budget in ([None] if scorer == FULL else budgets)
    ]


def work_through(cells: Sequence[Cell], run: Callable[[Cell], bool]) -> list[Cell]:
    """Run all cells, and again those that another process was at. Return what others are still at."""
    left = list(cells)
    while left and len(waiting := [cell for cell in left if not run(cell)]) < len(left):
        left = waiting
    return left


def read_others(data: Path, name: str, tokenizer: Any) -> dict[str, Task]:
    """Read the tasks of all catalogues but ``name``."""
    return {other: read_task(data, other, tokenizer) for other in CATALOGUES if other != name}


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
    parser.add_argument("--cases", type=comma_separated, default=["embedding"])
    parser.add_argument("--scorers", type=comma_separated, help="default: all of a case")
    parser.add_argument("--budgets", type=whole_numbers, default=list(BUDGETS))
    parser.add_argument("--rows", choices=["test", "last"], default="test",
                        help="test rows, or the last item of each training user, for choices")  # fmt: skip
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32",
                        help="type that self-information and the generative case compute in")  # fmt: skip
    parser.add_argument("--llmlingua2", help="a checkpoint, whose scorer is measured too")
    parser.add_argument("--list", action="store_true", help="show what is done, and measure nothing")
    options = parser.parse_args()
    cells = plan(options.catalogues, options.cases, options.scorers, options.budgets)
    if options.llmlingua2 is None:
        if CHECKPOINT in (options.scorers or ()):
            parser.error(f"--scorers names {CHECKPOINT}; give its checkpoint as --llmlingua2.")
        cells = [cell for cell in cells if cell.scorer != CHECKPOINT]
    if options.list:
        return show(options.output, cells)
    origin, dtype = environment(options.seeds[0]), getattr(torch, options.dtype)
    lm, tokenizer = load_causal_lm(options.model)
    for name in options.catalogues:
        task = read_task(options.data, name, tokenizer)
        task = task.last_items() if options.rows == "last" else task
        evaluator = Evaluator(task, ItemEncoder(cut(lm)), cache=options.cache)
        cases: dict[str, Case] = {}
        if "embedding" in options.cases:
            cases["embedding"] = Embedding(evaluator, EmbeddingConfig())
        if "generative" in options.cases:
            titles = [item.fields.get("title", "") for item in read_catalogue(options.data, name).items]
            cases["generative"] = Generative(evaluator, titles, lm, tokenizer, GenerativeConfig(), dtype)
        shared = {"rows": options.rows, "fields": list(FIELDS)}
        others = partial(read_others, options.data, name, tokenizer)
        suite = Suite(
            evaluator, lm, tokenizer, cases, others, options.output, origin, shared, dtype, options.llmlingua2
        )
        mine = [cell for cell in cells if cell.catalogue == name]
        left = work_through(mine, partial(suite.run, seeds=options.seeds))
        if left:
            print(f"{name}: another process is at {', '.join(cell.name for cell in left)}", flush=True)
    return None


if __name__ == "__main__":
    main()
