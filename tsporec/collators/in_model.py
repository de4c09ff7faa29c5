"""Selection between the batch and the model, on the model's device.

A collator selects in the workers of the data loader. If the selector is to run on the GPU, let the base collator pad
whole texts and cut the batch on the device::

    batch = collator(features)                                     # any collator: padded, whole texts
    batch["span_ids"] = span_ids(spans, batch["attention_mask"])   # which tokens may be dropped
    model(**selecting(**batch))

The kept tokens are those that :class:`~tsporec.collators.selector.SelectorCollator` keeps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tsporec.budget import Budget, as_budget
from tsporec.collators.spans import IGNORED_LABEL
from tsporec.selection import pieces_of_words, select_scored
from tsporec.tokens.ragged import RaggedTokens
from tsporec.topk import pad_kept, topk_mask

__all__ = ["BatchSelector", "span_ids"]


def span_ids(spans: Sequence[Sequence[tuple[int, int]]], attention_mask: Tensor) -> Tensor:
    """Number the tokens of each row's spans, for :class:`BatchSelector`.

    ``spans`` has a list of ``(start, end)`` for each row, as positions in the row without padding. ``attention_mask``,
    int or bool ``[B, L]``, is 0 in the padding, which may be on either side. The result, int32 ``[B, L]``, is ``n`` for
    the tokens of a row's n-th span, counted from 1, and 0 elsewhere. Spans that do not fit are a ``ValueError``.

    Examples
    --------
    >>> span_ids([[(1, 3), (3, 4)]], torch.tensor([[0, 1, 1, 1, 1]])).tolist()
    [[0, 0, 1, 1, 2]]
    """
    if len(spans) != len(attention_mask):
        raise ValueError(f"there are spans for {len(spans)} rows, expected one list for each of {len(attention_mask)}")
    numbers = torch.zeros(attention_mask.shape, dtype=torch.int32)
    held = attention_mask.cpu().bool()
    for row, (row_spans, mask) in enumerate(zip(spans, held, strict=True)):
        length, first = int(mask.sum()), int(mask.to(torch.uint8).argmax())
        last = 0
        for number, (start, end) in enumerate(row_spans, 1):
            if not last <= start <= end <= length:
                raise ValueError(
                    f"row {row}: span ({start}, {end}) does not lie between {last}, where the one before ends, and "
                    f"the row's {length} tokens; give spans in order, relative to the row without padding"
                )
            numbers[row, first + start : first + end] = number
            last = end
    return numbers.to(attention_mask.device)


class BatchSelector(nn.Module):
    """Cut the spans of a padded batch to their best tokens, on the batch's device.

    Always kept, as in the collator: tokens outside spans, ``protected_ids``, tokens whose label is not -100.

    Parameters
    ----------
    selector : nn.Module
        ``forward(ids [T], cu_seqlens [N + 1]) -> scores [T]``, as
        :class:`~tsporec.selector.model.TokenSelector`. It runs without gradients.
    budget : Budget or int
        Budget of each span: a number of tokens or a ``keep_ratio``.
    protected_ids : ints, optional
        Token ids that are always kept. Default: the special tokens of the tokenizer that ``selector`` is bound to.
    padding_side : "right" or "left"
        Side of the padding in the batch that comes out. Default "right".
    pad_token_id : int
        Default 0.
    granularity : "token" or "word"
        Keep exactly the best tokens (default), or whole words; see :func:`tsporec.select`. Whole words are selected on
        the CPU, by the tokenizer that ``selector`` is bound to.
    width : int, optional
        Columns of the batch that comes out. Default: those of the longest row, which is read back from the device.

    Raises
    ------
    ValueError
        If the budget is a ``total``, or an argument is not one of the above.

    Examples
    --------
    >>> from tsporec import TokenSelector
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> selector = TokenSelector.from_pretrained().for_tokenizer(word_tokenizer("a blue gel pen".split()))
    >>> ids, mask = torch.tensor([[1, 4, 5, 6, 7]]), torch.ones(1, 5, dtype=torch.int64)
    >>> BatchSelector(selector, 2)(ids, mask, span_ids([[(0, 5)]], mask))["input_ids"].shape
    torch.Size([1, 2])
    """

    protected_ids: Tensor

    def __init__(
        self,
        selector: nn.Module,
        budget: Budget | int,
        protected_ids: Sequence[int] | None = None,
        padding_side: str = "right",
        pad_token_id: int = 0,
        width: int | None = None,
        granularity: str = "token",
    ) -> None:
        super().__init__()
        self.whole_words = pieces_of_words(granularity, None, selector)
        self.budget = as_budget(budget)
        if self.budget.total is not None:
            raise ValueError("a total is shared out on the CPU; give the spans tokens or a keep_ratio here")
        if padding_side not in ("right", "left"):
            raise ValueError(f"padding_side is {padding_side!r}, expected 'right' or 'left'")
        if protected_ids is None:
            protected_ids = getattr(selector, "special_token_ids", None) or ()
        self.selector, self.padding_side, self.pad_token_id, self.width = selector, padding_side, pad_token_id, width
        protected = torch.tensor(sorted({int(i) for i in protected_ids}), dtype=torch.int64)
        self.register_buffer("protected_ids", protected, persistent=False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        span_ids: Tensor,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Cut a batch ``[B, L]``; another shape is a ``ValueError``.

        Neighbouring spans have different numbers in ``span_ids``. Gradients pass through ``inputs_embeds`` float
        ``[B, L, D]``.

        Returns
        -------
        dict
            ``input_ids`` or, if given, ``inputs_embeds``, ``attention_mask``, ``position_ids`` (from 0 in each row, 0
            in the padding) and, if given, ``labels``: ``[B, width, ...]``, for ``model(**batch)``.
        """
        for name, column in (("attention_mask", attention_mask), ("span_ids", span_ids), ("labels", labels)):
            if column is not None and column.shape != input_ids.shape:
                raise ValueError(
                    f"{name} has shape {tuple(column.shape)}, expected that of input_ids, {tuple(input_ids.shape)}"
                )
        rows, length = input_ids.shape
        keep = self._keep(input_ids, attention_mask.bool(), span_ids, labels)
        columns = {"input_ids": input_ids} if inputs_embeds is None else {"inputs_embeds": inputs_embeds}
        fill = [self.pad_token_id if inputs_embeds is None else 0]
        if labels is not None:
            columns["labels"] = labels
            fill.append(IGNORED_LABEL)
        cut, mask = pad_kept(
            keep.flatten(),
            torch.arange(rows + 1, dtype=torch.int32, device=keep.device) * length,
            [column.flatten(0, 1) for column in columns.values()],
            int(keep.sum(dim=1).max()) if self.width is None and rows else self.width or 0,
            fill,
            self.padding_side,
        )
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0) * mask
        return {**dict(zip(columns, cut, strict=True)), "attention_mask": mask, "position_ids": positions}

    @torch.no_grad()
    def _keep(self, ids: Tensor, valid: Tensor, numbers: Tensor, labels: Tensor | None) -> Tensor:
        """Return which tokens stay: bool ``[B, L]``."""
        where = (valid & (numbers > 0)).flatten().nonzero().squeeze(1)
        if not len(where):
            return valid
        # Number the spans of the whole batch: rows [1, 1, 2], [1, 1, 0] -> spans of 2, 1 and 2 tokens.
        span = numbers.flatten()[where] + (where // ids.shape[1]) * (numbers.max() + 1)
        _, lengths = torch.unique_consecutive(span, return_counts=True)
        cu_seqlens = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        texts = ids.flatten()[where]
        protected = torch.isin(texts, self.protected_ids)
        if labels is not None:
            protected |= labels.flatten()[where] != IGNORED_LABEL
        k = self.budget.resolve(np.zeros(0), cu_seqlens.cpu().numpy())
        scores = self.selector(texts, cu_seqlens).detach()
        keep = valid.flatten().clone()
        if self.whole_words is None:
            keep[where] = topk_mask(scores, cu_seqlens, torch.from_numpy(k).to(ids.device), protected)
            return keep.view_as(valid)
        tokens = RaggedTokens(texts.cpu().numpy(), cu_seqlens.cpu().numpy())
        marked = protected.cpu().numpy()
        found = select_scored(scores.cpu().numpy(), tokens, k, whole_words=self.whole_words, protected=marked)
        keep[where] = False
        keep[where[torch.from_numpy(found.kept).to(ids.device)]] = True
        return keep.view_as(valid)
