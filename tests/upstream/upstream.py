"""Run the data code of other people's recommenders, unchanged, from checkouts that TSPOREC_UPSTREAM names.

TSPOREC_UPSTREAM is a folder with one checkout for each name below, at these commits. This repository holds none of
their code. If the code is part of a training script, the script runs up to the trainer, with its model, tokenizer and
trainer replaced.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sys
import types
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

COMMITS = {
    "HLLM": "bytedance/HLLM@2deed176",
    "MiniOneRec": "AkaliKong/MiniOneRec@81b4ba98",
    "PatchRec": "ljy0ustc/PatchRec@27ac23c5",
    "S-DPO": "chenyuxin1999/S-DPO@07befa41",
    "TALLRec": "SAI990323/TALLRec@c1db29ce",
    "transformers": "huggingface/transformers@4f01369c",
    "trl": "huggingface/trl@f2cd5771",
}


def checkout(name: str) -> Path:
    """Return the checkout called ``name``, or skip the test."""
    folder = Path(os.environ.get("TSPOREC_UPSTREAM", ""), name)
    if "TSPOREC_UPSTREAM" not in os.environ or not folder.is_dir():
        pytest.skip(f"TSPOREC_UPSTREAM does not name a folder with {name} ({COMMITS[name]})")
    return folder


def load(path: Path) -> Any:
    """Return the module in a file."""
    spec = importlib.util.spec_from_file_location(f"upstream_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stand_in(patch: pytest.MonkeyPatch, name: str, **names: Any) -> None:
    """Put a module with these ``names`` in the place of one that is not installed."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        patch.setitem(sys.modules, name, types.ModuleType(name))
    for attribute, value in names.items():
        if not hasattr(importlib.import_module(name), attribute):
            patch.setattr(importlib.import_module(name), attribute, value, raising=False)


class Caught(Exception):  # noqa: N818 - it is no error
    """Carries what a training script gave to its trainer."""


def catch(*args: Any, **options: Any) -> None:
    """Stand in for a Trainer."""
    raise Caught(options)


def made_of(value: Any) -> Any:
    """Stand in for a class whose ``from_pretrained`` gives ``value``."""
    return SimpleNamespace(from_pretrained=lambda *args, **options: value)


def minionerec(users: list[dict[str, Any]], tokenizer: Any, folder: Path, max_len: int) -> tuple[list[Any], list[str]]:
    """Return the features of ``SFTData``, and the instruction that it sampled for each."""
    import pandas

    module, seed = load(checkout("MiniOneRec") / "data.py"), 3
    table = [
        {
            "history_item_title": repr(user["history"]),
            "item_title": user["target"],
            "item_id": 7,
            "history_item_id": "[1, 2]",
        }
        for user in users
    ]
    pandas.DataFrame(table).to_csv(folder / "train.csv", index=False)
    data = module.SFTData(folder / "train.csv", tokenizer, max_len=max_len, seed=seed, category="office products")
    random.seed(seed)
    return [data[i] for i in range(len(data))], [data.instructs[random.randint(0, 10)] for _ in users]


def tallrec(
    points: list[dict[str, str]], tokenizer: Any, patch: pytest.MonkeyPatch, cutoff: int, train_on_inputs: bool
) -> tuple[list[Any], Any]:
    """Return the features that ``finetune_rec.py`` gives to its Trainer, in order of ``points``, and its collator."""
    import transformers
    from datasets import Dataset

    patch.setenv("LD_LIBRARY_PATH", os.environ.get("LD_LIBRARY_PATH", ""))  # it sets its own
    patch.setenv("WANDB_DISABLED", "true")
    stand_in(patch, "fire")
    stand_in(patch, "sklearn")
    stand_in(patch, "sklearn.metrics", roc_auc_score=None)
    stand_in(patch, "peft", prepare_model_for_int8_training=lambda model: model)
    module = load(checkout("TALLRec") / "finetune_rec.py")
    module.LlamaForCausalLM, module.LlamaTokenizer = made_of(MagicMock()), made_of(tokenizer)
    module.get_peft_model = lambda model, config: model
    module.load_dataset = lambda kind, data_files: {"train": Dataset.from_list(points)}
    patch.setattr(transformers, "Trainer", catch)
    patch.setattr(transformers, "TrainingArguments", dict)
    with pytest.raises(Caught) as caught:
        module.train(
            base_model="tiny", train_data_path="train.json", val_data_path="val.json", sample=len(points),
            cutoff_len=cutoff, train_on_inputs=train_on_inputs,
        )  # fmt: skip
    given = caught.value.args[0]
    columns = ("input_ids", "attention_mask", "labels")
    rows = {row["input"] + row["output"]: {c: row[c] for c in columns} for row in given["train_dataset"]}
    return [rows[point["input"] + point["output"]] for point in points], given["data_collator"]


def hllm(
    items: list[dict[str, str]], sequences: list[list[int]], tokenizer: Any, folder: Path, patch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """Return ``TextSEQTrainDataset`` of users' sequences (places in ``items``, from 1) and its collate function."""
    import datetime

    import pandas

    stand_in(patch, "pytz", timezone=lambda name: datetime.timezone.utc)
    code = checkout("HLLM") / "code" / "REC" / "data" / "dataset"
    tokenizer.save_pretrained(folder / "tokenizer")
    table = [{"item_id": f"item{i}", **item} for i, item in enumerate(items, 1)]
    pandas.DataFrame(table).to_csv(folder / "items.csv", index=False)
    config = defaultdict(lambda: None) | {
        "MAX_ITEM_LIST_LENGTH": 3,
        "MAX_TEXT_LENGTH": 40,
        "text_path": folder / "items.csv",
        "text_keys": list(items[0]),
        "item_pretrain_dir": folder / "tokenizer",
        "item_prompt": "Compress the following sentence into embedding: ",
        "item_emb_token_n": 1,
        "loss": "nce",
    }
    dataload = SimpleNamespace(
        item_num=len(items) + 1,
        train_feat={"item_seq": sequences, "time_seq": [list(range(len(row))) for row in sequences]},
        id2token={"item_id": np.array(["[PAD]", *(row["item_id"] for row in table)])},
    )
    dataset = load(code / "trainset.py").TextSEQTrainDataset(config, dataload)
    return dataset, load(code / "collate_fn.py").customize_rmpad_collate


def sdpo(tokenizer: Any) -> tuple[Any, Any]:
    """Return its collator, which tokenises strings, and its class of prompts."""
    folder = checkout("S-DPO")
    collator = load(folder / "trainer" / "utils.py").DPODataCollatorWithPadding(
        tokenizer, max_length=512, max_prompt_length=512
    )
    return collator, load(folder / "Prompt.py").Prompt


def patchrec(titles: list[str], histories: list[list[int]], tokenizer: Any, folder: Path, patch: Any) -> list[str]:
    """Return the chats that ``sft.py`` makes of histories (places in ``titles``). The last of each is the target."""
    import pandas

    code = checkout("PatchRec")
    patch.syspath_prepend(str(code))
    patch.delitem(sys.modules, "utils", raising=False)
    stand_in(patch, "trl", DataCollatorForCompletionOnlyLM=MagicMock())
    module = load(code / "sft.py")
    patch.delitem(sys.modules, "utils", raising=False)
    module.AutoModelForCausalLM, module.AutoTokenizer = made_of(MagicMock()), made_of(tokenizer)
    module.DataCollatorForCompletionOnlyLM = module.SFTConfig = MagicMock()
    module.print_parameters_info, module.SFTTrainer = MagicMock(), catch
    home = folder / "ml-1m"
    home.mkdir()
    (home / "id2title.txt").write_text("\n".join(f"{i}||{title}" for i, title in enumerate(titles)))
    (home / "prompt.txt").write_text("You are a helpful assistant.\nA user has watched [HISTORY_SEQUENCE]. What next?")
    last = [len(row) - 1 for row in histories]
    table = {"seq": histories, "len_seq": [n + 1 for n in last], "train_idx": [(n, n) for n in last]}
    pandas.DataFrame({**table, "val_idx": table["train_idx"]}).to_pickle(home / "seq.df")
    patch.setattr(sys, "argv", ["sft.py", "--data_dir", str(folder)])
    arguments: argparse.Namespace = module.parser()
    with pytest.raises(Caught) as caught:
        module.train(arguments)
    given = caught.value.args[0]
    return list(given["formatting_func"](given["train_dataset"][:]))
