"""Small corpora, rewards and tasks that the tests of learning share."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import TEXTS, make_causal_lm
from tsporec.data.synthetic import CatalogueConfig, PlantedCatalogue, generate
from tsporec.evaluation.task import Task, prepare
from tsporec.learning.candidates import CandidateConfig
from tsporec.learning.preferences import collect_preferences
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.ragged import RaggedTokens


class LikesThirds:
    """Rewards tokens whose id is divisible by three."""

    fingerprint = "thirds"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, tokens, candidates):
        self.calls += 1
        return np.bincount(candidates.owner, tokens.ids[candidates.kept] % 3 == 0, minlength=len(candidates))


class LikesLate:
    """Rewards tokens that stand late in the text."""

    fingerprint = "late"

    def __call__(self, tokens, candidates):
        place = tokens.offsets() / np.repeat(tokens.lengths, tokens.lengths)
        return np.bincount(candidates.owner, place[candidates.kept], minlength=len(candidates))


@pytest.fixture(scope="session")
def corpus(tokenizer):
    rows = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    return RaggedTokens.from_lists([row[i:] + row[:i] for row in rows for i in range(8)])


def collect(folder, corpus, tokenizer, reward=None, **options):
    options = {"candidates": CandidateConfig((3,), 6), "shard_segments": 16, **options}
    return collect_preferences(
        corpus, np.zeros(corpus.num_tokens, dtype=np.float32), reward or LikesThirds(), folder,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer), **options,
    )  # fmt: skip


def small_catalogue(items: int = 40, users: int = 40) -> PlantedCatalogue:
    return generate(CatalogueConfig(items=items, users=users, tastes=4, words_per_taste=3, mentions=8, sequence=5))


@pytest.fixture(scope="session")
def catalogue() -> PlantedCatalogue:
    return small_catalogue()


@pytest.fixture(scope="session")
def task(catalogue) -> Task:
    return prepare(catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("description",))


@pytest.fixture(scope="session")
def encoder(catalogue) -> ItemEncoder:
    return ItemEncoder(make_causal_lm(len(catalogue.tokenizer)))
