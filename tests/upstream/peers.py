"""Run the collator tests of transformers and TRL on their own collators, then on the same collators wrapped.

    python tests/upstream/peers.py CHECKOUT [TEST_FILE ...]

CHECKOUT is a checkout of either. TRL's tests run against the checkout. Those of transformers, whose sources lie deeper,
run against the installed package. Every collator that a test module imports is wrapped, with a budget that drops
nothing. This is a script because those tests are a package called ``tests`` too.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from tsporec import Budget, SelectorCollator, make_scorer

FILES = {
    "transformers": ["tests/trainer/test_data_collator.py"],
    "trl": [f"tests/test_{name}_trainer.py" for name in ("sft", "dpo", "reward", "kto")],
}
IDS = ("input_ids", "prompt_ids", "chosen_ids")
SCORER = make_scorer("random")
scored = 0


def column_of_ids(feature: Any) -> str | None:
    """Return the column of flat ids in a feature of these collators; None for images, raw text and lists."""
    columns = dict(feature) if hasattr(feature, "keys") else {}
    return next((name for name in IDS if len(columns.get(name, ())) and getattr(columns[name], "ndim", 1) == 1), None)


def all_of_it(feature: Any) -> list[tuple[int, int]]:
    """Return one span over all tokens."""
    global scored
    name = column_of_ids(feature)
    if name is None:
        return []
    scored += len(feature[name])
    return [(0, len(feature[name]))]


class Wrapped:
    """Stand in for a collator class (or function), and wrap what it makes."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.is_function = isinstance(kind, FunctionType)

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self.is_function:
            return self._wrap(self.kind, args[0])(*args, **options)
        base = self.kind(*args, **options)
        return lambda features, *rest, **more: self._wrap(base, features)(features, *rest, **more)

    @staticmethod
    def _wrap(base: Any, features: Any) -> SelectorCollator:
        ids = column_of_ids(features[0]) or IDS[0]
        return SelectorCollator(base, SCORER, Budget(keep_ratio=1.0), all_of_it, ids=ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kind, name)


class Run:
    """A pytest plugin that keeps the tests of collators, wraps these if asked to, and records how each test ends."""

    def __init__(self, wrap: bool) -> None:
        self.wrap, self.outcomes = wrap, {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        whole = any("test_data_collator" in item.nodeid for item in items)
        items[:] = [item for item in items if whole or "DataCollator" in item.nodeid]
        for module in {item.module for item in items} if self.wrap else ():
            for name, value in list(vars(module).items()):
                plain = name.lower().replace("_", "").removeprefix("default")
                if plain.startswith("datacollator") and "test" not in plain:
                    setattr(module, name, Wrapped(value))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome


def run(checkout: Path, files: list[str]) -> dict[str, Any]:
    """Return how the tests in ``files`` end, plain and wrapped."""
    sys.path.insert(0, str(checkout))
    package = importlib.import_module(checkout.name)
    installed = checkout not in Path(str(package.__file__)).parents
    if checkout.name == "transformers" and not hasattr(package, "DataCollatorForWholeWordMask"):
        # Gone from newer releases; what its deprecation said to use instead.
        package.DataCollatorForWholeWordMask = partial(package.DataCollatorForLanguageModeling, whole_word_mask=True)
    commit = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    os.chdir(checkout)
    ends = []
    for wrap in (False, True):
        plugin = Run(wrap)
        pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", "--tb=line", "-W", "ignore", *files], [plugin])
        ends.append(plugin.outcomes)
    plain, wrapped = ends
    passed = [{name for name, end in outcomes.items() if end == "passed"} for outcomes in (plain, wrapped)]
    return {
        "checkout": f"{checkout.name}@{commit[:8]}",
        "collators of": f"{checkout.name} {package.__version__}" if installed else "the checkout",
        "tests": len(plain),
        "pass plain": len(passed[0]),
        "pass wrapped": len(passed[1]),
        "pass plain only": sorted(passed[0] - passed[1]),
        "do not pass plain": sorted(set(plain) - passed[0]),
        "tokens that went through selection": scored,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    print(json.dumps(run(folder, sys.argv[2:] or FILES[folder.name]), indent=1))
