"""The works that :mod:`benchmarks.faults` disturbs: small, so that each takes about a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tsporec import ItemCatalog, TokenSelector
from tsporec._internal.digest import digest
from tsporec.data.items import Item, tokenize_items
from tsporec.data.synthetic import CatalogueConfig, generate
from tsporec.learning.candidates import CandidateConfig
from tsporec.learning.config import LearningConfig
from tsporec.learning.pipeline import train
from tsporec.learning.preferences import collect_preferences, load_preferences, read_shard
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.trainer import PreferenceTrainer  # imported before a fork, so that children need not
from tsporec.recommenders.embedding import EmbeddingConfig, EmbeddingRecommender
from tsporec.selector.config import SelectorConfig

assert PreferenceTrainer
SHAPE = SelectorConfig(dim=8, hidden=8, gram_buckets=512, surface_buckets=1024)
MADE = CatalogueConfig(items=40, users=40, tastes=4, words_per_taste=3, mentions=8, sequence=5)
STEPS = {"num_train_epochs": 2, "use_cpu": True}
LEARNING = LearningConfig(
    budgets=(4,), weightings=("idf", "placed"), distinct=(1.2,), network_rounds=1, item_rounds=1, candidates=4,
    pairs=2, network_training=STEPS, item_training=STEPS, selector=SHAPE,
    recommender=EmbeddingConfig(width=16, eval_every=5, patience=1),
    rewards={"coconsumption": 1.0, "recommendation": 1.0, "identity": 0.5},
)  # fmt: skip


class Work:
    """Something that writes to a folder."""

    name: str
    workers = 0  # worker processes that it can use

    def begin(self, folder: Path) -> None:
        """Make the state before the work."""
        folder.mkdir(parents=True)

    def run(self, folder: Path, workers: int = 0) -> None:
        """Do the work, or go on with it."""
        raise NotImplementedError

    def resume(self, folder: Path) -> None:
        """Do what follows damage: by default the work again."""
        self.run(folder)

    def check(self, folder: Path) -> None:
        """Raise if the last good state is not there."""
        raise NotImplementedError

    def state(self, folder: Path) -> str:
        """Digest what a finished run leaves."""
        raise NotImplementedError

    def halfway(self, folder: Path) -> bool | None:
        """Return whether a killed run has left something to go on with; None if such a state is not of interest."""
        return None

    def unprotected(self, name: Path, how: str) -> bool:
        """Return whether damage of this kind to this file is not found, as the documentation says."""
        return name.name in ("README.md", "writer.txt") or name.suffix == ".lock" or name.suffix == ".holder"


class Training(Work):
    """Train with all three stages, two rounds and every reward."""

    name, workers = "train", 1

    def __init__(self) -> None:
        self.made = generate(MADE)
        self.model = tiny_model(len(self.made.tokenizer))

    def run(self, folder: Path, workers: int = 0) -> None:
        """Train, or resume."""
        steps = {**STEPS, "dataloader_num_workers": workers}
        config = replace(LEARNING, network_training=steps, item_training=steps)
        with patch("tsporec.learning.warm_up.require_better_than_popularity"):  # 40 users teach no recommender
            train(self.made.items, self.made.train, self.model, self.made.tokenizer, folder, config,
                  fields=["description"])  # fmt: skip

    def check(self, folder: Path) -> None:
        """Load what is finished."""
        if (folder / "selector").exists():
            TokenSelector.from_pretrained(folder / "selector")
        if (folder / "recommender").exists():
            EmbeddingRecommender.load(folder / "recommender")

    def state(self, folder: Path) -> str:
        """Digest the selector and the recommender."""
        self.check(folder)
        files = [*folder.glob("selector/*.safetensors"), folder / "selector/config.json"]
        files += folder.glob("recommender/recommender.*")  # not run.json, which names the number of workers
        return digest(*(part for path in sorted(files) for part in (path.name, bytes_of(path))))

    def halfway(self, folder: Path) -> bool:
        """Return whether there is a checkpoint to resume from."""
        return any(folder.glob("rounds/*/checkpoints/*/trainer_state.json"))

    def unprotected(self, name: Path, how: str) -> bool:
        """Leave out the files of checkpoints that have no checksum."""
        plain = name.name in ("model.safetensors", "trainer_state.json", "training_args.bin")
        return super().unprotected(name, how) or ("checkpoints" in name.parts and plain and how == "changed")


class Collecting(Work):
    """Collect preferences in five shards of eight segments."""

    name = "collect"

    def __init__(self) -> None:
        made = generate(MADE)
        self.tokens = tokenize_items(made.items, made.tokenizer, ["description"])
        self.reward = CoConsumptionReward(self.tokens, [[int(item) for item in row.item_ids] for row in made.train])

    def run(self, folder: Path, workers: int = 0) -> None:
        """Collect, or resume."""
        collect_preferences(
            self.tokens, np.zeros(self.tokens.num_tokens, np.float32), self.reward, folder,
            tokenizer_fingerprint="words", candidates=CandidateConfig((4, 2), 6), shard_segments=8,
        )  # fmt: skip

    def check(self, folder: Path) -> None:
        """Read the finished shards."""
        for path in folder.glob("preferences-*.parquet"):
            read_shard(path)

    def state(self, folder: Path) -> str:
        """Digest the rows."""
        return digest(load_preferences(folder).to_list())

    def halfway(self, folder: Path) -> bool:
        """Return whether some shards are finished and some are not."""
        return 0 < len(list(folder.glob("*.parquet"))) < 5


class Building(Work):
    """Build a catalogue of 400 items, with a commit every 40."""

    name, workers = "build", 2

    def __init__(self) -> None:
        made = generate(MADE)
        texts = [item.fields["description"] for item in made.items]
        self.items = [Item(f"item-{n}", {"title": f"{texts[n % 40]} {texts[n * 7 % 40]}"}) for n in range(400)]
        self.tokenizer = made.tokenizer
        tokens = tokenize_items(self.items, made.tokenizer)
        self.selector = TokenSelector(SHAPE).for_tokenizer(made.tokenizer).fit(tokens)
        self.given: dict[str, Any] = {"tokenizer": made.tokenizer, "selector": self.selector}

    def run(self, folder: Path, workers: int = 0) -> None:
        """Build, or resume; a finished catalogue stays."""
        try:
            ItemCatalog.open(folder)
        except ValueError:
            how = {"num_proc": max(workers, 1), "start_method": "fork", "chunk_items": 20, "commit_items": 40}
            ItemCatalog.build(self.items, **self.given, budget=4, path=folder, **how)

    def check(self, folder: Path) -> None:
        """Open the catalogue if it is finished."""
        try:
            catalog = ItemCatalog.open(folder, verify=True)
        except ValueError as error:
            if "unfinished" not in str(error) and "no catalogue in" not in str(error):
                raise
        else:
            assert len(catalog) == len(self.items)

    def state(self, folder: Path) -> str:
        """Digest ids, kept tokens and ranks."""
        catalog = ItemCatalog.open(folder, verify=True)
        ids = list(catalog)
        tokens = catalog.lookup(ids)
        return digest(ids, tokens.ids, tokens.cu_seqlens, *(catalog.ranks(one) for one in ids))

    def halfway(self, folder: Path) -> bool:
        """Return whether a build is unfinished."""
        try:
            ItemCatalog.open(folder)
        except ValueError as error:
            return "unfinished" in str(error)
        return False


class Updating(Building):
    """Update a catalogue: 100 texts are other ones, 100 items are new, one is deleted."""

    name, workers = "update", 2

    def __init__(self) -> None:
        super().__init__()
        other = [Item(f"item-{n}", self.items[n + 1].fields) for n in range(100)]
        self.changed = [*other, *(Item(f"new-{n}", self.items[n].fields) for n in range(100))]

    def begin(self, folder: Path) -> None:
        """Build the catalogue."""
        super().run(folder)

    def run(self, folder: Path, workers: int = 0) -> None:
        """Update."""
        catalog = ItemCatalog.open(folder)
        delete = ["item-399"] if "item-399" in catalog else []
        how = {"num_proc": max(workers, 1), "start_method": "fork", "chunk_items": 20, "commit_items": 40}
        catalog.update(self.changed, delete=delete, **self.given, **how)

    def check(self, folder: Path) -> None:
        """Read every record of the state before or after."""
        catalog = ItemCatalog.open(folder, verify=True)
        assert (len(catalog), "new-0" in catalog, "item-399" in catalog) in ((400, False, True), (499, True, False))

    def halfway(self, folder: Path) -> None:
        """Every state is a whole one."""


class Saving(Work):
    """Save a selector with item weights over another one."""

    name = "save"

    def __init__(self) -> None:
        made = generate(MADE)
        tokens = tokenize_items(made.items, made.tokenizer, ["description"])
        self.old = TokenSelector(SHAPE).for_tokenizer(made.tokenizer)
        torch.nn.init.ones_(self.old.network.out.weight)
        self.new = TokenSelector(replace(SHAPE, weighting="placed")).for_tokenizer(made.tokenizer).fit(tokens)
        self.new = self.new.make_distinct(tokens, [4])

    def begin(self, folder: Path) -> None:
        """Save the old selector."""
        self.old.save_pretrained(folder)

    def run(self, folder: Path, workers: int = 0) -> None:
        """Save the new one."""
        self.new.save_pretrained(folder)

    def resume(self, folder: Path) -> None:
        """Do nothing: the selector is read as it is."""

    def check(self, folder: Path) -> None:
        """Read the old or the new one."""
        found = TokenSelector.from_pretrained(folder)
        if found.config.weighting == "placed":
            assert found.item_weights is not None
        else:
            assert bool(found.network.out.weight.all())

    def state(self, folder: Path) -> str:
        """Digest all weights."""
        found = TokenSelector.from_pretrained(folder)
        parts = sorted(found.state_dict().items())
        return digest(vars(found.config), *(part for name, weight in parts for part in (name, weight.numpy())))


def tiny_model(vocabulary: int) -> Any:
    """Make a random causal LM of one layer."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **size)).eval()


def bytes_of(path: Path) -> np.ndarray:
    """Read a file as an array."""
    return np.frombuffer(path.read_bytes(), dtype=np.uint8)


WORKS: dict[str, type[Work]] = {work.name: work for work in (Training, Collecting, Building, Updating, Saving)}
