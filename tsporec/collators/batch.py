"""Selection between the batch and the model, on the model's device: no round trip over the CPU.

The collator selects in the data loader's workers. Where the scorer is better run on the GPU, let the base collator pad
whole texts, and cut the batch there::

    batch = collator(features)                                     # any collator; padded, whole texts
    batch["span_ids"] = span_ids(spans, batch["attention_mask"])   # which tokens may go
    model(**selecting(**batch))

The kept tokens are those that `SelectorCollator` keeps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tsporec.budget import Budget
from tsporec.collators.spans import IGNORED_LABEL
from tsporec.topk import topk_mask, topk_padded

__all__ = ["BatchSelector", "span_ids"]


def span_ids(spans: Sequence[Sequence[tuple[int, int]]], attention_mask: Tensor) -> Tensor:
    """Number the tokens of each row's spans, for `BatchSelector`.

    Parameters
    ----------
    spans : for each row, its ``(start, end)`` in the row without padding
    attention_mask : int or bool ``[B, L]``
        Padding on either side.

    Returns
    -------
    int32 ``[B, L]``
        ``n`` for the tokens of the row's n-th span, from 1; 0 outside spans.

    Raises
    ------
    ValueError
        If the rows do not match, or a span lies outside its row or overlaps the one before.

    Examples
    --------
    >>> span_ids([[(1, 3), (3, 4)]], torch.tensor([[0, 1, 1, 1, 1]])).tolist()
    [[0, 0, 1, 1, 2]]
    """
    if len(spans) != len(attention_mask):
        raise ValueError(f"there are spans for {len(spans)} rows, expected one list for each of {len(attention_mask)}")
    numbers = torch.zeros(attention_mask.shape, dtype=torch.int32)
    held = attention_mask.cpu().bool()
    for row, (own, mask) in enumerate(zip(spans, held, strict=True)):
        length, first = int(mask.sum()), int(mask.to(torch.uint8).argmax())
        last = 0
        for number, (start, end) in enumerate(own, 1):
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

    Parameters
    ----------
    selector : nn.Module
        ``forward(ids [T], cu_seqlens [N + 1]) -> scores [T]``, as
        :class:`~tsporec.selector.model.TokenSelector`. It is run without gradients.
    budget : Budget
        Of each span: ``tokens`` or ``keep_ratio``.
    protected_ids : ints
        Token ids that are always kept: the special tokens.
    padding_side : "right" or "left"
        Of the batch that comes out.
    pad_token_id : int
    width : int, optional
        Columns of the batch that comes out. By default what the longest row needs, which is read back from the device.

    Notes
    -----
    Never dropped, as in the collator: tokens outside spans, `protected_ids`, tokens whose label is not -100.
    """

    protected_ids: Tensor

    def __init__(
        self,
        selector: nn.Module,
        budget: Budget,
        protected_ids: Sequence[int] = (),
        padding_side: str = "right",
        pad_token_id: int = 0,
        width: int | None = None,
    ) -> None:
        super().__init__()
        if budget.total is not None:
            raise ValueError("a total is shared out on the CPU; give the spans tokens or a keep_ratio here")
        if padding_side not in ("right", "left"):
            raise ValueError(f"padding_side is {padding_side!r}, expected 'right' or 'left'")
        self.selector = selector
        self.budget = budget
        self.padding_side = padding_side
        self.pad_token_id = pad_token_id
        self.width = width
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
        """Cut a batch.

        Parameters
        ----------
        input_ids : int ``[B, L]``
            Scored; returned too, unless `inputs_embeds` is given.
        attention_mask : int or bool ``[B, L]``
        span_ids : int ``[B, L]``
            As :func:`span_ids`; neighbouring spans have different numbers.
        labels : int ``[B, L]``, optional
        inputs_embeds : float ``[B, L, D]``, optional
            Gradients pass through.

        Returns
        -------
        dict
            ``input_ids`` or ``inputs_embeds``, ``attention_mask``, ``position_ids`` (from 0 in each row, 0 in the
            padding) and, if given, ``labels``: ``[B, width, ...]``, for ``model(**batch)``.

        Raises
        ------
        ValueError
            If a tensor does not have the shape of `input_ids`.
        """
        for name, column in (("attention_mask", attention_mask), ("span_ids", span_ids), ("labels", labels)):
            if column is not None and column.shape != input_ids.shape:
                raise ValueError(
                    f"{name} has shape {tuple(column.shape)}, expected that of input_ids, {tuple(input_ids.shape)}"
                )
        rows, length = input_ids.shape
        keep = self._keep(input_ids, attention_mask.bool(), span_ids, labels)
        payloads, fill, names = [input_ids], [self.pad_token_id], ["input_ids"]
        if inputs_embeds is not None:
            payloads, fill, names = [inputs_embeds], [0], ["inputs_embeds"]
        if labels is not None:
            payloads, fill, names = [*payloads, labels], [*fill, IGNORED_LABEL], [*names, "labels"]
        width = int(keep.sum(dim=1).max()) if self.width is None and rows else self.width or 0
        cut, mask = topk_padded(
            keep.new_zeros(rows * length, dtype=torch.float32),
            torch.arange(rows + 1, dtype=torch.int32, device=keep.device) * length,
            length,
            [payload.flatten(0, 1) for payload in payloads],
            width,
            forbidden=~keep.flatten(),
            fill=fill,
            side=self.padding_side,
        )
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0) * mask
        return {**dict(zip(names, cut, strict=True)), "attention_mask": mask, "position_ids": positions}

    @torch.no_grad()
    def _keep(self, ids: Tensor, valid: Tensor, numbers: Tensor, labels: Tensor | None) -> Tensor:
        """Which tokens stay: bool ``[B, L]``."""
        inside = valid & (numbers > 0)
        where = inside.flatten().nonzero().squeeze(1)
        if not len(where):
            return valid
        span = numbers.flatten()[where] + (where // ids.shape[1]) * (numbers.max() + 1)
        _, lengths = torch.unique_consecutive(span, return_counts=True)
        cu = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        texts = ids.flatten()[where]
        protected = torch.isin(texts, self.protected_ids)
        if labels is not None:
            protected |= labels.flatten()[where] != IGNORED_LABEL
        scores = self.selector(texts, cu)
        kept = topk_mask(scores.detach(), cu, self._asked(lengths), protected)
        keep = valid.flatten().clone()
        keep[where] = kept
        return keep.view_as(valid)

    def _asked(self, lengths: Tensor) -> Tensor:
        """Tokens asked of each span, int32 ``[N]``, as `Budget.resolve` has them."""
        if self.budget.tokens is not None:
            return torch.full_like(lengths, self.budget.tokens, dtype=torch.int32)
        assert self.budget.keep_ratio is not None
        return torch.ceil(lengths.double() * self.budget.keep_ratio - 1e-9).to(torch.int32)
