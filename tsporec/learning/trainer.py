"""Train a selector on a preference dataset: ``transformers.Trainer`` with preference losses.

Logging, checkpoints, resuming, mixed precision and distribution are the Trainer's own; arguments and metrics have the
names of TRL's DPO. Two things differ from training a language model. All pairs of a segment go through the network
together, so that its tokens are scored once; and pairs are held out *by segment*, for preference models overfit
within epochs and the pairs of a segment resemble each other.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalPrediction, TrainOutput

from tsporec.learning.losses import LOSS_TYPES, preference_loss, subset_sums
from tsporec.learning.pairs import SegmentPairs, check_preferences, collate_segments


@dataclass
class PreferenceConfig(TrainingArguments):  # type: ignore[misc]  # transformers ships no types here
    """``TrainingArguments`` with what preference learning adds; the defaults suit a selector.

    A batch counts segments: every step takes all pairs of ``per_device_train_batch_size`` of them.

    Parameters
    ----------
    beta : float
        Strength of the tie to the reference policy.
    loss_type : str
        "sigmoid", "ipo", "hinge" or "regression"; see :func:`tsporec.learning.losses.preference_loss`.
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


class Patience(TrainerCallback):  # type: ignore[misc]
    """Stops training when the metric has not risen for so many evaluations.

    It counts in the logged history, so that a resumed run stops where the whole one does;
    ``transformers.EarlyStoppingCallback`` starts counting anew.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def spent(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Whether training has to stop at ``state``."""
        values = [log[args.metric_for_best_model] for log in state.log_history if args.metric_for_best_model in log]
        best = max(values, default=0.0) if args.greater_is_better else min(values, default=0.0)
        return bool(values) and len(values) - 1 - values.index(best) >= self.patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        """After every evaluation."""
        control.should_training_stop |= self.spent(args, state)


class PreferenceTrainer(Trainer):  # type: ignore[misc]
    """Trains a :class:`~tsporec.selector.model.TokenSelector` (or any module ``(ids, cu_seqlens) -> logits``) on pairs.

    Parameters
    ----------
    model : TokenSelector
        Bound to the tokenizer of the dataset.
    args : PreferenceConfig
    train_dataset : datasets.Dataset
        With the columns of :data:`tsporec.learning.dataset.COLUMNS`.
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
            callbacks.append(Patience(args.patience))
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

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> Any:
        """As ``Trainer.train``; a run whose patience was spent at the checkpoint takes its best weights and ends."""
        if isinstance(resume_from_checkpoint, str) and self.args.load_best_model_at_end:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
            if state.best_model_checkpoint and Patience(self.args.patience).spent(self.args, state):
                self.state = state
                self._load_best_model()
                return TrainOutput(state.global_step, float("nan"), {})
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **options)

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
            right = (outputs["chosen"] > outputs["rejected"]).float()
            means = [float(value.mean()) for value in (outputs["chosen"], outputs["rejected"], right)]
            for name, value in rewards_metrics(*means).items():
                self._sums.setdefault(name, []).append(value)
        return (loss, outputs) if return_outputs else loss

    @torch.no_grad()
    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Loss, sums over each segment's pairs ``[N, 3]`` and, as labels, how many pairs it has ``[N]``.

        The sums are of chosen rewards, rejected rewards and pairs in the right order. There is a row a segment, for a
        Trainer drops from the last batch what is more than the dataset's rows.
        """
        inputs = self._prepare_inputs(inputs)
        loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        right = (outputs["chosen"] > outputs["rejected"]).to(outputs["chosen"].dtype)
        values = torch.stack([outputs["chosen"], outputs["rejected"], right], dim=1)
        owner, segments = inputs["pair_segment"], len(inputs["cu_seqlens"]) - 1
        sums = values.new_zeros(segments, 3).index_add_(0, owner, values)
        return loss.detach(), sums, torch.bincount(owner, minlength=segments)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means of the training rewards since the last log."""
        if "loss" in logs and self._sums:
            logs.update({name: float(np.mean(values)) for name, values in self._sums.items()})
            self._sums.clear()
        super().log(logs, *args, **kwargs)


def rewards_metrics(chosen: float, rejected: float, accuracy: float) -> dict[str, float]:
    """TRL's names: implicit rewards ``beta * (log p - log p_ref)``, their margin, how often it is > 0."""
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": accuracy,
    }


def preference_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """:func:`rewards_metrics` over all held-out pairs."""
    sums, pairs = np.asarray(prediction.predictions, dtype=np.float64), np.asarray(prediction.label_ids)
    return rewards_metrics(*(sums.sum(axis=0) / pairs.sum()).tolist())


class Policy(nn.Module):
    """The module that is trained, bare: the Trainer writes to a model's ``config``, and a selector's is frozen."""

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """The logits ``[T]``."""
        logits: Tensor = self.scorer(ids, cu_seqlens)
        return logits


def last_checkpoint(folder: str | Path) -> str | None:
    """The newest complete checkpoint in ``folder``: its ``trainer_state.json``, which is written last, can be read."""
    found = []
    for path in Path(folder).glob("checkpoint-*"):
        try:
            found.append((int(json.loads((path / "trainer_state.json").read_text())["global_step"]), str(path)))
        except (OSError, ValueError, KeyError):  # noqa: PERF203 - each may be broken on its own
            continue
    return max(found)[1] if found else None
