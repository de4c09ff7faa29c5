"""One small case a recommender: the batch that its own code makes, and the batch that our example makes.

    TSPOREC_UPSTREAM=FOLDER python -m tests.upstream.cases

writes what their code makes to ``tests/golden/NAME.json``, with the inputs and the vocabulary.
``tests/collators/test_golden.py`` compares our examples with that, without their code.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from tests.upstream import upstream

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
PACKED = ("input_ids", "cu_input_lens", "position_ids")
WORDS = r"\w+|\s|[^\w\s]"
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]

TITLES = ['HP 74 ink, "black"', "Gel pen", "Heavy stapler (1000)", "Café notebook"]
INPUTS: dict[str, Any] = {
    "minionerec": {
        "users": [
            {"history": TITLES[:2], "target": TITLES[2]},
            {"history": TITLES, "target": TITLES[1]},
            {"history": TITLES[3:], "target": TITLES[0]},
        ],
        "max_len": 178,
    },
    "tallrec": {
        "points": [
            {"instruction": "Answer Yes or No.", "input": f"User Preference: {', '.join(TITLES[:n])}\n{TITLES[3]}?",
             "output": answer}
            for n, answer in ((1, "Yes."), (3, "No."))
        ],
        "cutoff": 124,
        "train_on_inputs": False,
    },
    "hllm": {
        "items": [{"title": title, "description": f"{title} for the office " * n} for n, title in enumerate(TITLES)],
        "sequences": [[1, 2, 3], [4, 1]],
    },
    "sdpo": {
        "rows": [
            {"prompt": f"This person has bought {', '.join(TITLES[:n])}. Answer: ", "chosen": TITLES[2],
             "rejected1": TITLES[3], "rejected2": TITLES[0]}
            for n in (1, 2)
        ]
    },
}  # fmt: skip


def example(name: str) -> Any:
    """Return the module of an example."""
    if str(ROOT / "examples") not in sys.path:
        sys.path.insert(0, str(ROOT / "examples"))
    return importlib.import_module(name)


def word_tokenizer(vocabulary: list[str], start: bool = True) -> Any:
    """Return a tokenizer with one token for each word, mark or white space, and ``<s>`` before a text."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*SPECIAL, *vocabulary])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    if start:
        core.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        padding_side="left",
    )  # fmt: skip


def lists(batch: Any) -> dict[str, Any]:
    """Return a batch of tensors as lists."""
    return {name: value.tolist() for name, value in batch.items()}


def pad(features: list[Any], tokenizer: Any) -> dict[str, Any]:
    """Collate as MiniOneRec and TALLRec do."""
    return lists(DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8, return_tensors="pt", padding=True)(features))


def theirs(name: str, inputs: Any, tokenizer: Any, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the batch of the recommender's own code; ``inputs`` gets what that code sampled."""
    random.seed(0)
    if name == "minionerec":
        features, inputs["instructions"] = upstream.minionerec(inputs["users"], tokenizer, folder, inputs["max_len"])
        return pad(features, tokenizer)
    if name == "tallrec":
        features, collator = upstream.tallrec(
            inputs["points"], tokenizer, patch, inputs["cutoff"], inputs["train_on_inputs"]
        )
        return lists(collator(features))
    if name == "hllm":
        dataset, collate = upstream.hllm(inputs["items"], inputs["sequences"], tokenizer, folder, patch)
        batch = lists(collate([dataset[i] for i in range(len(dataset))]))
        inputs["read"] = {side: [i for row in batch[f"{side}_item_ids"] for i in row] for side in ("pos", "neg")}
        return {
            key: value for key, value in batch.items() if key.startswith(("pos_", "neg_")) and "item_ids" not in key
        }
    collator, _ = upstream.sdpo(tokenizer)
    batch = collator(inputs["rows"])
    return {f"{side}_ids": unpadded(batch, side) for side in ("chosen", "rejected1", "rejected2")}


def unpadded(batch: Any, side: str) -> list[list[int]]:
    """Return the ids of one side of an S-DPO batch, as TRL's dataset has them."""
    ids, mask = batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"].bool()
    return [row[seen].tolist() for row, seen in zip(ids, mask, strict=True)]


def ours(name: str, inputs: Any, tokenizer: Any) -> dict[str, Any]:
    """Return the batch that our example makes of the same ``inputs``."""
    if name == "minionerec":
        make = example("minionerec_sft").feature
        features = [
            make(user["history"], user["target"], tokenizer, instruction, max_len=inputs["max_len"])
            for user, instruction in zip(inputs["users"], inputs["instructions"], strict=True)
        ]
        return pad([{k: v for k, v in row.items() if k != "item_spans"} for row in features], tokenizer)
    if name == "tallrec":
        make = example("tallrec_binary").feature
        return pad(
            [make(p, tokenizer, inputs["cutoff"], inputs["train_on_inputs"]) for p in inputs["points"]], tokenizer
        )
    if name == "hllm":
        module = example("hllm_packed")
        ids = [module.encode(item, tokenizer, 40) for item in inputs["items"]]
        empty = tokenizer.encode("")
        sides = {
            s: module.packed(s, [ids[i - 1] if i else empty for i in inputs["read"][s]], 40) for s in ("pos", "neg")
        }
        return lists(module.collate([sides["pos"] | sides["neg"]]))
    module, sides = example("trl_dpo"), {}
    for side in ("rejected1", "rejected2"):
        with tempfile.TemporaryDirectory() as folder:
            rows = [{"prompt": r["prompt"], "chosen": r["chosen"], "rejected": r[side]} for r in inputs["rows"]]
            trained = module.trainer(rows, tokenizer, folder).train_dataset
        for key, column in (("chosen", "chosen_ids"), (side, "rejected_ids")):
            sides[f"{key}_ids"] = [row["prompt_ids"] + row[column] for row in trained]
    return sides


def words_of(*texts: str) -> list[str]:
    """Return the words, marks and white space of ``texts``, sorted."""
    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    return sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})


def golden(name: str) -> dict[str, Any]:
    """Return what is written for a case: their batch, in a vocabulary of the words that are in it."""
    inputs = json.loads(json.dumps(INPUTS[name]))
    examples = [Path(str(example(e).__file__)).read_text() for e in ("minionerec_sft", "tallrec_binary", "hllm_packed")]
    vocabulary = words_of(*strings(inputs), " \n\tproductss", *examples)
    for last in (False, True):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            batch = theirs(name, inputs, word_tokenizer(vocabulary, name != "sdpo"), Path(folder), patch)
        ids = {i for key, rows in batch.items() if "ids" in key and "position" not in key for i in flat(rows)}
        if not last:  # now the sampled inputs and the words of their prompts are known
            used = [vocabulary[i - len(SPECIAL)] for i in ids if i >= len(SPECIAL)]
            vocabulary = sorted({*words_of(*strings(inputs)), *used})
    assert SPECIAL.index("<unk>") not in ids
    return {"made by": COMMITS[name], "vocabulary": vocabulary, "inputs": inputs, "batch": batch}


def strings(value: Any) -> list[str]:
    """Return all strings in a case, and an item's fields as HLLM joins them."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    joined = ["".join(f"{key}: {part}" for key, part in value.items())] if isinstance(value, dict) else []
    return joined + [string for part in parts for string in strings(part)]


def flat(rows: list[Any]) -> list[int]:
    """Return the numbers in a column of a batch."""
    return [i for row in rows for i in (row if isinstance(row, list) else [row])]


def main() -> None:
    """Write the golden files."""
    for name in INPUTS:
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in golden(name).items())
        (GOLDEN / f"{name}.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


COMMITS = {
    "minionerec": f"data.py of {upstream.COMMITS['MiniOneRec']}",
    "tallrec": f"finetune_rec.py of {upstream.COMMITS['TALLRec']}",
    "hllm": f"trainset.py and collate_fn.py of {upstream.COMMITS['HLLM']}",
    "sdpo": f"trainer/utils.py of {upstream.COMMITS['S-DPO']}",
}

if __name__ == "__main__":
    main()
