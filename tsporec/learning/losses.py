"""Preference losses over token subsets of equal size.

The policy over subsets of size k is the conditional Bernoulli distribution ``p(S) = exp(sum of s_t, t in S) / Z_k``.
``Z_k`` depends on the scores and k alone, so in a pair of equal size it cancels::

    h = [log p(S+) - log p(S-)] - [log p_ref(S+) - log p_ref(S-)]
      = (sum of s over S+ - sum of s over S-) - (the same of the reference)

and every loss below is exact, though no normaliser is computed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

LOSS_TYPES = ("sigmoid", "ipo", "hinge", "regression")
"""What ``loss_type`` may be."""


def subset_sums(logits: Tensor, kept: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The sum of the logits of every subset.

    Parameters
    ----------
    logits : float ``[T]``
    kept : int64 ``[K]``
        Positions into ``[T]``, subset after subset.
    cu_seqlens : int ``[B + 1]``
        Offsets of the subsets in ``kept``.

    Returns
    -------
    Tensor
        ``[B]``.
    """
    sizes = cu_seqlens.diff().long()
    subset = torch.repeat_interleave(sizes)
    return logits.new_zeros(sizes.shape[0]).index_add(0, subset, logits.index_select(0, kept))


def preference_loss(
    h: Tensor,
    beta: Tensor | float,
    loss_type: str = "sigmoid",
    label_smoothing: float = 0.0,
    reward_difference: Tensor | None = None,
) -> Tensor:
    """The loss of every pair.

    Parameters
    ----------
    h : float ``[B]``
        The difference of log-ratios, chosen less rejected, as in the module's head.
    beta : float or ``[B]``
        Strength of the tie to the reference.
    loss_type : str
        * ``"sigmoid"``: ``f(h) = -log sigmoid(beta h)`` (DPO; Rafailov et al., 2023, eq. 7).
        * ``"ipo"``: ``f(h) = (h - 1 / (2 beta))**2`` (IPO; Azar et al., 2023, eq. 17).
        * ``"hinge"``: ``f(h) = max(0, 1 - beta h)`` (SLiC; Zhao et al., 2023, with the reference's log-ratio as in
          Liu et al., 2023).
        * ``"regression"``: ``f(h) = (beta h - d)**2``, ``d`` the difference of the rewards (REBEL; Gao et al., 2024).
    label_smoothing : float
        Chance ``e`` in [0, 0.5) that a preference is wrong: the loss is ``(1 - e) f(h) + e f(-h)`` (conservative
        DPO; Mitchell, 2023), for every type.
    reward_difference : float ``[B]``, optional
        ``d``, chosen less rejected; needed by ``"regression"`` only.

    Returns
    -------
    Tensor
        ``[B]``.
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing must be in [0, 0.5), found {label_smoothing}.")
    loss = _one_sided(h, beta, loss_type, reward_difference)
    if label_smoothing:
        flipped = _one_sided(-h, beta, loss_type, reward_difference)
        loss = (1 - label_smoothing) * loss + label_smoothing * flipped
    return loss


def _one_sided(h: Tensor, beta: Tensor | float, loss_type: str, reward_difference: Tensor | None) -> Tensor:
    if loss_type == "sigmoid":
        return -F.logsigmoid(beta * h)
    if loss_type == "ipo":
        return (h - 1 / (2 * beta)) ** 2
    if loss_type == "hinge":
        return F.relu(1 - beta * h)
    if loss_type == "regression":
        if reward_difference is None:
            raise ValueError("loss_type 'regression' needs the rewards of both sides; give reward_difference.")
        return (beta * h - reward_difference) ** 2
    raise ValueError(f"loss_type must be one of {', '.join(LOSS_TYPES)}; found {loss_type!r}.")
