"""Confidence intervals for fractions."""

from __future__ import annotations

import math

Z95 = 1.959963984540054


def wilson(fraction: float, count: int) -> tuple[float, float]:
    """95 % interval of a mean of `count` values in 0..1 (Wilson, 1927, equation for the score interval).

    Exact in form for 0/1 values; for partial credit it is too wide rather than too narrow, because no distribution
    on 0..1 with that mean varies more. Stays within 0..1, also at 0 and 1.
    """
    if count == 0:
        return 0.0, 1.0
    shrink = 1 + Z95**2 / count
    centre = (fraction + Z95**2 / (2 * count)) / shrink
    half = Z95 / shrink * math.sqrt(fraction * (1 - fraction) / count + Z95**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)
