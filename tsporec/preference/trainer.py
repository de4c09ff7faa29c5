"""Train a selector on a preference dataset: ``transformers.Trainer`` with preference losses.

Logging, checkpoints, resuming, mixed precision and distribution are the Trainer's own; arguments and metrics have the
names of TRL's DPO. Two things differ from training a language model. All pairs of a segment go through the network
together, so that its tokens are scored once; and pairs are held out *by segment*, for preference models overfit
within epochs and the pairs of a segment resemble each other.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments
from transformers.trainer_utils import EvalPrediction

from tsporec.preference.dataset import COLUMNS, dataset_tokenizer
from tsporec.preference.losses import LOSS_TYPES, preference_loss, subset_sums
from tsporec.ragged import RaggedTokens
from tsporec.selector import TokenSelector


@dataclass
class PreferenceConfig(TrainingArguments):  # type: ignore[misc]  # transformers ships no types here
    """``TrainingArguments`` with what preference learning adds; the defaults suit a selector.

    A batch counts segments: every step takes all pairs of ``per_device_train_batch_size`` of them.

    Parameters
    ----------
    beta : float
        Strength of the tie to the reference policy.
    loss_type : str
        "sigmoid", "ipo", "hinge" or "regression"; see :func:`tsporec.preference.losses.preference_loss`.
    label_smoothing : float
        Chance that a preference is wrong. (``label_smoothing_factor`` is the Trainer's own, and unused.)
    size_exponent : float
        The sums of k logits are divided by ``k ** size_exponent``, so that budgets weigh alike.
    held_out : float
        Share of segments whose pairs are held out, where no evaluation dataset is given; 0: none.
    patience : int
        Stop when ``eval_rewards/accuracies`` has not risen for so many evaluations, and take the best weights.
    """

    beta: float = field(default=1.0, metadata={"help": "Strength of the tie to the reference."})
    loss_type: str = field(default="sigmoid", metadata={"help": f"One of {', '.join(LOSS_TYPES)}."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Chance that a preference is wrong."})
    size_exponent: float = field(default=0.5, metadata={"help": "Sums of k logits are divided by k to this power."})
    held_out: float = field(default=0.1, metadata={"help": "Share of segments held out."})
    patience: int = field(default=2, metadata={"help": "Evaluations without a rise before training stops."})
    output_dir: str | None = field(default=None, metadata={"help": "Checkpoints go here."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Segments a step."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Segments a step."})
    learning_rate: float = field(default=2e-3, metadata={"help": "Of AdamW."})
    weight_decay: float = field(default=0.01, metadata={"help": "Of AdamW."})
    num_train_epochs: float = field(default=6, metadata={"help": "At most."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Take the best weights."})
    metric_for_best_model: str | None = field(
        default="eval_rewards/accuracies", metadata={"help": "What training stops by."}
    )
    greater_is_better: bool | None = field(default=True, metadata={"help": "Higher is better."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator reads all columns."})
    report_to: Any = field(default="none", metadata={"help": "Integrations to report to."})

    def __post_init__(self) -> None:
        if self.loss_type not in LOSS_TYPES:
            raise ValueError(f"loss_type must be one of {', '.join(LOSS_TYPES)}; found {self.loss_type!r}.")
        if not self.beta > 0 or not 0 <= self.label_smoothing < 0.5 or not 0 <= self.held_out < 1:
            raise ValueError(
                "expected beta > 0, label_smoothing in [0, 0.5) and held_out in [0, 1); found "
                f"{self.beta}, {self.label_smoothing} and {self.held_out}."
            )
        super().__post_init__()


class PreferenceTrainer(Trainer):  # type: ignore[misc]
    """Trains a :class:`~tsporec.selector.TokenSelector` (or any module ``(ids, cu_seqlens) -> logits``) on pairs.

    Parameters
    ----------
    model : TokenSelector
        Bound to the tokenizer of the dataset.
    args : PreferenceConfig
    train_dataset : datasets.Dataset
        With the columns of :data:`tsporec.preference.dataset.COLUMNS`.
    eval_dataset : datasets.Dataset, optional
        By default a share ``args.held_out`` of the segments of ``train_dataset``.
    ref_model : TokenSelector, optional
        The reference policy; by default ``model`` as it is now. Its sums are computed once, at the start.
    **options
        Of ``transformers.Trainer``: callbacks, optimizers and so on.

    Raises
    ------
    ValueError
        If the dataset is empty, lacks a column, has a pair of unequal sizes or of places outside the segment, or was
        made with another tokenizer than the selector is bound to.
    """

    def __init__(
        self,
        model: Any,
        args: PreferenceConfig,
        train_dataset: Any,
        eval_dataset: Any | None = None,
        ref_model: Any | None = None,
        **options: Any,
    ) -> None:
        for name, dataset in (("train_dataset", train_dataset), ("eval_dataset", eval_dataset)):
            if dataset is not None:
                check_preferences(dataset, model, name)
        reference = copy.deepcopy(model) if ref_model is None else ref_model
        train = SegmentPairs(train_dataset, reference)
        held: SegmentPairs | None = None
        if eval_dataset is not None:
            held = SegmentPairs(eval_dataset, reference)
        elif args.held_out > 0:
            train, held = train.split(args.held_out, args.seed)
        callbacks = list(options.pop("callbacks", None) or [])
        if held is not None and args.load_best_model_at_end:
            callbacks.append(EarlyStoppingCallback(args.patience))
        elif held is None:
            args = copy.copy(args)
            args.eval_strategy, args.load_best_model_at_end = "no", False
        self.selector = model
        super().__init__(
            model=Policy(model),
            args=args,
            train_dataset=train,
            eval_dataset=held,
            data_collator=collate_segments,
            compute_metrics=preference_metrics,
            callbacks=callbacks,
            **options,
        )
        self.model_accepts_loss_kwargs = False
        self._sums: dict[str, list[float]] = {}

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The mean loss over the pairs of a batch; outputs are ``chosen`` and ``rejected`` rewards ``[B]``."""
        logits = model(inputs["ids"], inputs["cu_seqlens"]).float()
        size = inputs["pair_cu"].diff().to(logits.dtype) ** self.args.size_exponent
        ratios = {
            side: (subset_sums(logits, inputs[side], inputs["pair_cu"]) - inputs[f"ref_{side}"]) / size
            for side in ("chosen", "rejected")
        }
        losses = preference_loss(
            ratios["chosen"] - ratios["rejected"],
            self.args.beta,
            self.args.loss_type,
            self.args.label_smoothing,
            inputs["reward_difference"],
        )
        loss = losses.mean()
        outputs = {side: self.args.beta * ratio.detach() for side, ratio in ratios.items()}
        if model.training:
            for name, value in rewards_metrics(outputs["chosen"], outputs["rejected"]).items():
                self._sums.setdefault(name, []).append(value)
        return (loss, outputs) if return_outputs else loss

    @torch.no_grad()
    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Loss, rewards ``[B, 2]`` and, as labels, which rows are pairs ``[B]``."""
        inputs = self._prepare_inputs(inputs)
        loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        rewards = torch.stack([outputs["chosen"], outputs["rejected"]], dim=1)
        return loss.detach(), rewards, torch.ones(len(rewards), device=rewards.device)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means of the training rewards since the last log."""
        if "loss" in logs and self._sums:
            logs.update({name: float(np.mean(values)) for name, values in self._sums.items()})
            self._sums.clear()
        super().log(logs, *args, **kwargs)


def rewards_metrics(chosen: Any, rejected: Any) -> dict[str, float]:
    """TRL's names: implicit rewards ``beta * (log p - log p_ref)``, their margin, how often it is > 0."""
    return {
        "rewards/chosen": float(chosen.mean()),
        "rewards/rejected": float(rejected.mean()),
        "rewards/margins": float((chosen - rejected).mean()),
        "rewards/accuracies": float((chosen > rejected).mean(dtype=torch.float32) if isinstance(chosen, Tensor)
                                    else (chosen > rejected).mean()),
    }  # fmt: skip


def preference_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """:func:`rewards_metrics` over all held-out pairs."""
    rewards, real = np.asarray(prediction.predictions), np.asarray(prediction.label_ids) == 1
    return rewards_metrics(rewards[real, 0], rewards[real, 1])


def check_preferences(dataset: Any, model: Any, name: str) -> None:
    """Refuse a dataset that cannot be trained on, saying why; see :class:`PreferenceTrainer`."""
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty; collect preferences at a budget smaller than the texts.")
    missing = [column for column in COLUMNS if column not in dataset.column_names]
    if missing:
        raise ValueError(f"{name} lacks the columns {missing}; found {dataset.column_names}.")
    found = dataset_tokenizer(dataset)
    bound = getattr(getattr(model, "vocabulary", None), "fingerprint", None)
    if isinstance(model, TokenSelector) and bound is None:
        raise ValueError("the selector is not bound to a tokenizer; call selector.for_tokenizer(tokenizer) first.")
    if found and bound and found != bound:
        raise ValueError(
            f"{name} was made with another tokenizer ({found}) than the selector is bound to ({bound}); bind it with "
            "for_tokenizer to the tokenizer of the dataset, or collect again."
        )


class Policy(nn.Module):
    """The module that is trained, bare: the Trainer writes to a model's ``config``, and a selector's is frozen."""

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """The logits ``[T]``."""
        logits: Tensor = self.scorer(ids, cu_seqlens)
        return logits


class SegmentPairs(Dataset[dict[str, Any]]):
    """The pairs of a preference dataset by segment, with the reference's sums.

    Parameters
    ----------
    dataset : datasets.Dataset
    reference : module ``(ids, cu_seqlens) -> logits``
    """

    def __init__(self, dataset: Any, reference: Any) -> None:
        columns = dataset.with_format("arrow")[:]
        self.segment = columns["segment"].to_numpy()
        self.pairs = {side: _ragged(columns[side]) for side in ("chosen", "rejected")}
        self.difference = columns["chosen_reward"].to_numpy() - columns["rejected_reward"].to_numpy()
        unequal = np.flatnonzero(self.pairs["chosen"].lengths != self.pairs["rejected"].lengths)
        if len(unequal):
            sizes = [int(self.pairs[side].lengths[unequal[0]]) for side in ("chosen", "rejected")]
            raise ValueError(
                f"pair {unequal[0]} keeps {sizes[0]} tokens against {sizes[1]}; the loss is exact for subsets of equal "
                "size only. Pair candidates of one budget."
            )
        _, first, self.owner = np.unique(self.segment, return_index=True, return_inverse=True)
        ids = _ragged(columns["input_ids"])
        self.tokens = ids.take(first)
        for side, kept in self.pairs.items():
            length = np.repeat(ids.lengths, kept.lengths)
            bad = np.flatnonzero((kept.ids < 0) | (kept.ids >= length))
            if len(bad):
                pair = int(kept.segment_ids()[bad[0]])
                raise ValueError(
                    f"pair {pair}: {side} names place {kept.ids[bad[0]]} of a segment of {ids.lengths[pair]} tokens."
                )
        self.reference = self._reference_sums(reference)
        self.members = np.split(
            np.argsort(self.owner, kind="stable"), np.cumsum(np.bincount(self.owner, minlength=len(self.tokens)))[:-1]
        )
        self.chosen_segments = np.arange(len(self.tokens))

    @torch.no_grad()
    def _reference_sums(self, reference: Any) -> dict[str, NDArray[np.float32]]:
        was_training, device = reference.training, next(reference.parameters()).device
        reference.eval()
        logits = []
        for part in np.array_split(np.arange(len(self.tokens)), max(1, self.tokens.num_tokens // 50_000)):
            batch = self.tokens.take(part)
            scores = reference(torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.cu_seqlens).to(device))
            logits.append(scores.float().cpu().numpy())
        reference.train(was_training)
        scores = np.concatenate(logits)
        sums = {}
        for side, kept in self.pairs.items():
            pair = kept.segment_ids()
            where = self.tokens.cu_seqlens[self.owner[pair]] + kept.ids
            sums[side] = np.bincount(pair, scores[where], minlength=len(kept)).astype(np.float32)
        return sums

    def split(self, fraction: float, seed: int) -> tuple[SegmentPairs, SegmentPairs]:
        """(the rest, a ``fraction`` of the segments); the same for the same seed."""
        count = len(self.tokens)
        if count < 2:
            raise ValueError(f"holding out needs pairs of at least two segments, found {count}; set held_out=0.")
        order = np.random.default_rng(seed).permutation(count)
        held = min(max(1, round(fraction * count)), count - 1)
        parts = copy.copy(self), copy.copy(self)
        parts[0].chosen_segments, parts[1].chosen_segments = np.sort(order[held:]), np.sort(order[:held])
        return parts

    def __len__(self) -> int:
        return len(self.chosen_segments)

    def __getitem__(self, index: int) -> dict[str, Any]:
        segment = int(self.chosen_segments[index])
        members = self.members[segment]
        return {
            "ids": self.tokens[segment],
            "chosen": [self.pairs["chosen"][int(m)] for m in members],
            "rejected": [self.pairs["rejected"][int(m)] for m in members],
            "ref_chosen": self.reference["chosen"][members],
            "ref_rejected": self.reference["rejected"][members],
            "reward_difference": self.difference[members],
        }


def collate_segments(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Packed ``ids [T]``, ``cu_seqlens [N + 1]``; ``chosen``, ``rejected`` places in ``[T]``, ``pair_cu [B + 1]``."""
    tokens = RaggedTokens.from_lists([row["ids"] for row in rows])
    batch: dict[str, Tensor] = {
        "ids": torch.from_numpy(tokens.ids.astype(np.int64)),
        "cu_seqlens": torch.from_numpy(tokens.cu_seqlens),
    }
    for side in ("chosen", "rejected"):
        moved = [kept + start for row, start in zip(rows, tokens.cu_seqlens[:-1], strict=True) for kept in row[side]]
        packed = RaggedTokens.from_lists(moved)
        batch[side] = torch.from_numpy(packed.ids.astype(np.int64))
        batch["pair_cu"] = torch.from_numpy(packed.cu_seqlens)
    for name in ("ref_chosen", "ref_rejected", "reward_difference"):
        batch[name] = torch.from_numpy(np.concatenate([row[name] for row in rows]).astype(np.float32))
    return batch


def last_checkpoint(folder: str | Path) -> str | None:
    """The newest complete checkpoint in ``folder``: its ``trainer_state.json``, which is written last, can be read."""
    found = []
    for path in Path(folder).glob("checkpoint-*"):
        try:
            found.append((int(json.loads((path / "trainer_state.json").read_text())["global_step"]), str(path)))
        except (OSError, ValueError, KeyError):  # noqa: PERF203 - each may be broken on its own
            continue
    return max(found)[1] if found else None


def _ragged(column: Any) -> RaggedTokens:
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    offsets = array.offsets.to_numpy()
    return RaggedTokens(array.values.to_numpy()[offsets[0] : offsets[-1]].astype(np.int32), offsets - offsets[0])
