"""Train a selector on a preference dataset: ``transformers.Trainer`` with preference losses.

Logging, checkpoints, resuming, mixed precision and distribution are those of the Trainer. Arguments and metrics have
the names of TRL's DPO. Two things differ from training a language model. All pairs of a segment go through the network
together, so its tokens are scored once. Pairs are held out *by segment*: preference models overfit within epochs, and
the pairs of a segment resemble each other.
"""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, Trainer, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalPrediction, TrainOutput

from tsporec._internal.extras import require
from tsporec.learning.batches import SIDES, SegmentPairs, check_preferences
from tsporec.learning.losses import LOSS_TYPES, preference_loss, subset_sums

STATE, MODEL = "trainer_state.json", "model.safetensors"
_SAVED = (MODEL, "optimizer.pt", "scheduler.pt", "rng_state*.pth")


@dataclass
class PreferenceConfig(TrainingArguments):  # type: ignore[misc]  # transformers ships no types here
    """Configure preference training: ``TrainingArguments`` with defaults that suit a selector.

    A batch counts segments. Every step takes all pairs of ``per_device_train_batch_size`` segments.

    Parameters
    ----------
    beta : float
        Strength of the tie to the reference policy. Higher values keep the selector closer to it. Default: 1.0.
    loss_type : str
        "sigmoid", "ipo" or "regression"; see :func:`tsporec.learning.losses.preference_loss`. Default: "sigmoid".
    held_out : float
        Share of segments whose pairs are held out if no evaluation dataset is given. 0 holds out none. Default: 0.1.
    patience : int
        Training stops after so many evaluations in which ``eval_rewards/accuracies`` did not rise, and the best weights
        are taken. Default: 2.
    """

    beta: float = 1.0
    loss_type: str = "sigmoid"
    held_out: float = 0.1
    patience: int = 2
    output_dir: str | None = None
    per_device_train_batch_size: int = 64
    per_device_eval_batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    num_train_epochs: float = 6
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 2
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "eval_rewards/accuracies"
    greater_is_better: bool | None = True
    restore_callback_states_from_checkpoint: bool = True  # a resumed run counts its patience on
    remove_unused_columns: bool = False
    dataloader_pin_memory: bool = False  # batches are small, and without a GPU it warns
    report_to: Any = "none"

    def __post_init__(self) -> None:
        if self.loss_type not in LOSS_TYPES:
            raise ValueError(f"loss_type must be one of {', '.join(LOSS_TYPES)}; found {self.loss_type!r}.")
        if not self.beta > 0 or not 0 <= self.held_out < 1:
            raise ValueError(f"expected beta > 0 and held_out in [0, 1); found {self.beta} and {self.held_out}.")
        require("accelerate", extra="train")
        super().__post_init__()


class PreferenceTrainer(Trainer):  # type: ignore[misc]
    """Train a :class:`~tsporec.selector.model.TokenSelector` on preferences.

    Parameters
    ----------
    model : TokenSelector
        A selector bound to the tokenizer of the dataset, or any module ``(ids, cu_seqlens) -> logits``.
    args : PreferenceConfig
    train_dataset : datasets.Dataset
        Its columns are :data:`tsporec.learning.preferences.COLUMNS`.
    eval_dataset : datasets.Dataset, optional
        Default: a share ``args.held_out`` of the segments of ``train_dataset``.
    ref_model : TokenSelector, optional
        The reference policy. Its sums are computed once, at the start. Default: ``model`` as it is now.
    **options
        Options of ``transformers.Trainer``: callbacks, optimizers and so on.

    Raises
    ------
    ValueError
        If a dataset is empty, lacks a column, has a pair of unequal sizes or places outside its segment, or was made
        with another tokenizer than the selector is bound to.

    Examples
    --------
    >>> import tempfile
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.learning.preferences import CandidateConfig, collect_preferences
    >>> from tsporec.learning.rewards.coconsumption import CoConsumptionReward
    >>> from tsporec.selector.model import TokenSelector
    >>> from tsporec.tokens.ragged import RaggedTokens
    >>> tokenizer = word_tokenizer("blue gel pen red ink".split())
    >>> ids = tokenizer(["blue gel pen", "red gel pen", "red ink"], add_special_tokens=False)["input_ids"]
    >>> tokens, folder = RaggedTokens.from_lists(ids), tempfile.mkdtemp()
    >>> selector = TokenSelector().for_tokenizer(tokenizer).fit(tokens)
    >>> pairs = collect_preferences(tokens, selector.score(tokens), CoConsumptionReward(tokens, [[0, 1], [1, 2]]),
    ...                             folder + "/pairs", tokenizer_fingerprint=selector.tokenizer_fingerprint,
    ...                             candidates=CandidateConfig((1,)))
    >>> args = PreferenceConfig(folder, num_train_epochs=1, held_out=0.0, disable_tqdm=True)
    >>> PreferenceTrainer(selector, args, pairs).train().global_step  # doctest: +ELLIPSIS
    {...}
    1
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
            model=ScorerModule(model),
            args=args,
            train_dataset=train,
            eval_dataset=held,
            data_collator=_as_it_is,  # SegmentPairs makes whole batches
            compute_metrics=preference_metrics,
            callbacks=callbacks,
            **options,
        )
        self.model_accepts_loss_kwargs = False
        self._sums: dict[str, list[float]] = {}

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, **options: Any) -> Any:
        """Train, as ``Trainer.train`` does.

        Parameters
        ----------
        resume_from_checkpoint : str, Path or bool, optional
            A checkpoint folder, or True for the newest complete one in ``args.output_dir``. Default: start anew.
        **options
            Options of ``Trainer.train``.

        Raises
        ------
        ValueError
            If there is no complete checkpoint, or a file of the checkpoint, or of the best one, is missing or damaged.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"{self.args.output_dir} has no complete checkpoint; train without resuming.")
        if not resume_from_checkpoint:
            return super().train(**options)
        checkpoint = Path(resume_from_checkpoint)
        if not (checkpoint / STATE).is_file():
            raise ValueError(f"{checkpoint} is no checkpoint: it has no {STATE}. Give one, or True for the newest.")
        state = TrainerState.load_from_json(str(checkpoint / STATE))
        best = checkpoint.with_name(f"checkpoint-{state.best_global_step}")  # the folder may have been moved
        self._check(checkpoint, best if self.args.load_best_model_at_end and state.best_global_step else None)
        control = state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if not (control.get("should_training_stop") and self.args.load_best_model_at_end):
            return super().train(resume_from_checkpoint=str(checkpoint), **options)
        # The run had stopped. Trainer.train resets `should_training_stop` and would train another epoch.
        state.best_model_checkpoint = str(best) if best.is_dir() else state.best_model_checkpoint
        self.state = state
        self._load_best_model()
        return TrainOutput(state.global_step, float("nan"), {})

    def _check(self, checkpoint: Path, best: Path | None) -> None:
        """Refuse files that the Trainer would leave out in silence, or die on without their names."""
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:  # they name their files themselves
            return
        _check_files(checkpoint, _SAVED[:1] if self.args.save_only_model else _SAVED, checkpoint)
        if best is not None:
            _check_files(best, _SAVED[:1], checkpoint.parent)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Compute the mean loss over the pairs of a batch; outputs are ``chosen`` and ``rejected`` rewards ``[B]``."""
        logits = model(inputs["ids"], inputs["cu_seqlens"]).float()
        # Sums of k logits spread as sqrt(k). Without this, large budgets would rule the loss and beta depend on them.
        scale = inputs["pair_cu"].diff().to(logits.dtype).sqrt()
        ratios = {
            side: (subset_sums(logits, inputs[side], inputs["pair_cu"]) - inputs[f"ref_{side}"]) / scale
            for side in SIDES
        }
        h = ratios["chosen"] - ratios["rejected"]
        loss = preference_loss(h, self.args.beta, self.args.loss_type, inputs["reward_difference"]).mean()
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
        """Return the loss, sums over each segment's pairs ``[N, 3]`` and the number of its pairs ``[N]``.

        The sums are those of chosen rewards, rejected rewards and pairs in the right order. Each segment has one row,
        because the Trainer cuts what a last batch returns to the number of its segments.
        """
        inputs = self._prepare_inputs(inputs)
        loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        right = (outputs["chosen"] > outputs["rejected"]).to(outputs["chosen"].dtype)
        values = torch.stack([outputs["chosen"], outputs["rejected"], right], dim=1)
        owner, segments = inputs["pair_segment"], len(inputs["cu_seqlens"]) - 1
        sums = values.new_zeros(segments, 3).index_add_(0, owner, values)
        return loss.detach(), sums, torch.bincount(owner, minlength=segments)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, with the means of the training rewards since the last log."""
        if "loss" in logs and self._sums:
            logs.update({name: float(np.mean(values)) for name, values in self._sums.items()})
            self._sums.clear()
        super().log(logs, *args, **kwargs)


def _as_it_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch


def rewards_metrics(chosen: float, rejected: float, accuracy: float) -> dict[str, float]:
    """Name the metrics as TRL does. Rewards are the implicit ones, ``beta * (log p - log p_ref)``.

    >>> rewards_metrics(0.5, 0.25, 1.0)["rewards/margins"]
    0.25
    """
    values = {"chosen": chosen, "rejected": rejected, "margins": chosen - rejected, "accuracies": accuracy}
    return {f"rewards/{name}": value for name, value in values.items()}


def preference_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Compute :func:`rewards_metrics` over all held-out pairs."""
    sums, pairs = np.asarray(prediction.predictions, dtype=np.float64), np.asarray(prediction.label_ids)
    return rewards_metrics(*(sums.sum(axis=0) / pairs.sum()).tolist())


class ScorerModule(nn.Module):
    """Wrap the trained module, because the Trainer writes to a model's ``config`` and a selector's is frozen."""

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Return the logits ``[T]``."""
        logits: Tensor = self.scorer(ids, cu_seqlens)
        return logits


def _check_files(checkpoint: Path, names: Sequence[str], anew: Path) -> None:
    """Check that files are there and whole. The remedy is to delete the folder ``anew``."""
    remedy = f"Restore it, or delete {anew} and run again: training then resumes from what is left."
    for name in names:
        found = sorted(checkpoint.glob(name))
        if not found:
            raise ValueError(f"{checkpoint / name} is missing. {remedy}")
        for path in found:
            try:
                if path.suffix == ".safetensors":
                    with safe_open(path, "pt"):
                        continue
                with zipfile.ZipFile(path) as archive:  # torch writes archives with a checksum of each part
                    if part := archive.testzip():
                        raise ValueError(f"the checksum of {part} differs")
            except Exception as error:  # what zipfile and zlib raise depends on the damage
                raise ValueError(f"{path} is damaged ({error}). {remedy}") from error


def last_checkpoint(folder: str | Path) -> str | None:
    """Return the newest complete checkpoint in ``folder``, or None.

    A checkpoint is complete if its ``trainer_state.json``, which is written last, can be read.
    """
    found = []
    for path in Path(folder).glob("checkpoint-*"):
        try:
            found.append((int(json.loads((path / STATE).read_text())["global_step"]), str(path)))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):  # noqa: PERF203 - each may be broken
            continue
    return max(found)[1] if found else None
