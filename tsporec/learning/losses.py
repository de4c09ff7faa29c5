"""Preference losses over token subsets of equal size.

The policy over subsets of size k is the conditional Bernoulli distribution ``p(S) = exp(sum of s_t, t in S) / Z_k``.
The normaliser ``Z_k`` depends on the scores and on k alone, so it cancels in a pair of equal size::

    h = [log p(S+) - log p(S-)] - [log p_ref(S+) - log p_ref(S-)]
      = [sum of s over S+ - sum of s over S-] - [sum of s_ref over S+ - sum of s_ref over S-]

Every loss below is therefore exact, although no normaliser is computed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

LOSS_TYPES = ("sigmoid", "ipo", "regression")
"""The values of ``loss_type``."""


def subset_sums(logits: Tensor, kept: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Sum the logits of every subset.

    Parameters
    ----------
    logits : float ``[T]``
    kept : int64 ``[K]``
        Positions in ``[T]``, subset after subset.
    cu_seqlens : int ``[B + 1]``
        Offsets of the subsets in ``kept``.

    Returns
    -------
    float ``[B]``

    Examples
    --------
    >>> subset_sums(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 1]), torch.tensor([0, 2, 3])).tolist()
    [5.0, 2.0]
    """
    sizes = cu_seqlens.diff().long()
    subset = torch.repeat_interleave(sizes)
    return logits.new_zeros(sizes.shape[0]).index_add(0, subset, logits.index_select(0, kept))


def preference_loss(
    h: Tensor, beta: Tensor | float, loss_type: str = "sigmoid", reward_difference: Tensor | None = None
) -> Tensor:
    """Compute the loss of every pair.

    Parameters
    ----------
    h : float ``[B]``
        Difference of the log-ratios, chosen minus rejected, as defined in the module's docstring.
    beta : float or ``[B]``
        Strength of the tie to the reference.
    loss_type : str
        * ``"sigmoid"``: ``-log sigmoid(beta h)`` (DPO; Rafailov et al., 2023, eq. 7). This is the default.
        * ``"ipo"``: ``(h - 1 / (2 beta))**2`` (IPO; Azar et al., 2023, eq. 17).
        * ``"regression"``: ``(beta h - d)**2``, where ``d`` is the difference of the rewards (REBEL; Gao et al., 2024).
    reward_difference : float ``[B]``, optional
        ``d``, chosen minus rejected. Only ``"regression"`` needs it.

    Returns
    -------
    float ``[B]``

    Examples
    --------
    >>> preference_loss(torch.tensor([0.0, 2.0]), beta=1.0).tolist()
    [0.6931471824645996, 0.12692801654338837]
    """
    if loss_type == "sigmoid":
        return -F.logsigmoid(beta * h)
    if loss_type == "ipo":
        return (h - 1 / (2 * beta)) ** 2
    if loss_type == "regression":
        if reward_difference is None:
            raise ValueError("loss_type 'regression' needs the rewards of both sides; give reward_difference.")
        return (beta * h - reward_difference) ** 2
    raise ValueError(f"loss_type must be one of {', '.join(LOSS_TYPES)}; found {loss_type!r}.")
