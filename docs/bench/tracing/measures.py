"""Agreement of numbers with numbers."""

from __future__ import annotations

from torch import Tensor


def ranks(values: Tensor) -> Tensor:
    """Return ranks along the last axis; those that are alike share the mean of theirs.

    Shapes:
        (..., n) -> (..., n).
    """
    less = (values.unsqueeze(-1) > values.unsqueeze(-2)).sum(-1)
    same = (values.unsqueeze(-1) == values.unsqueeze(-2)).sum(-1)
    return less.double() + (same.double() - 1) / 2


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Return rank correlations along the last axis, 0 where all of either are alike.

    Shapes:
        (..., n), (..., n) -> (...).
    """
    a, b = (ranks(values) - ranks(values).mean(-1, keepdim=True) for values in (one.double(), other.double()))
    return ((a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp_min(1e-12)).nan_to_num(0.0)


def lds(scores: Tensor, masks: Tensor, truths: Tensor) -> float:
    """Return the linear datamodelling score: the mean rank correlation of summed scores with retrainings.

    Source: Park et al. 2023, arXiv 2303.14186.

    Shapes:
        scores (q, n), masks (k, n) of what was kept, truths (k, q).
    """
    said = scores.double() @ masks.double().t()
    return float(spearman(said, truths.t()).mean())


def auc(scores: Tensor, wanted: Tensor) -> float:
    """Return how often one that is wanted has a larger score than one that is not.

    Shapes:
        (n,), (n,) of bool.
    """
    place = ranks(scores)
    positive, negative = int(wanted.sum()), int((~wanted).sum())
    return float((place[wanted].sum() - positive * (positive - 1) / 2) / (positive * negative))


def slope(said: Tensor, true: Tensor) -> float:
    """Return what estimates are to be multiplied by, by least squares through 0."""
    return float((said * true).sum() / (said * said).sum())
