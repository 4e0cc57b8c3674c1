"""Whether one recommender is really better than another: a test over the users both were given.

Users differ far more from each other than models do, so the difference is taken for each user
first, and then its mean and error. Start with `paired_test`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from raytune_ahu.errors import SpecError


@dataclass(frozen=True)
class PairedTest:
    """The difference of two models over the same users, by Student's paired t-test."""

    difference: float
    """Mean over users of the first minus the second."""
    standard_error: float
    """Of the difference, over users. NaN for fewer than two users."""
    p_value: float
    """Two-sided: how often a difference at least as large comes about where there is none."""
    n: int
    """Number of users."""


def paired_test(a: Tensor, b: Tensor) -> PairedTest:
    """Compare two models by their values for the same users, in the same order.

    Args:
        a: (n,): values of one model.
        b: (n,): values of the other.

    Raises:
        SpecError: If the lengths differ.
    """
    from scipy.special import stdtr  # scipy.stats takes a second to import

    if a.shape != b.shape:
        raise SpecError(f"{len(a)} and {len(b)} values cannot be paired; give one a user to each")
    n = len(a)
    differences = a.double() - b.double()
    mean = float(differences.mean())
    if n < 2:
        return PairedTest(mean, math.nan, math.nan, n)
    error = float(differences.std() / math.sqrt(n))
    if error == 0.0:  # the same difference for every user
        return PairedTest(mean, error, 1.0 if mean == 0.0 else 0.0, n)
    return PairedTest(mean, error, 2 * float(stdtr(n - 1, -abs(mean / error))), n)
