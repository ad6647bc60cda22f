"""Numbers as people read them."""

from __future__ import annotations

import math

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
"""Decimal prefixes (SI, but T/G/M/k) with their factors, the largest first."""


def amount(value: float) -> str:
    """Three digits and a unit: ``11.7M``, ``1.81G``, ``640``."""
    for size, unit in _UNITS:
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}" if value != int(value) else str(int(value))


def share(part: float, whole: float) -> str:
    """``part`` of ``whole`` in percent, ``-`` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def seconds(value: float) -> str:
    """A duration: ``412 ms``, ``3.4 ms``, ``1.25 s``."""
    if value >= 1:
        return f"{value:.3g} s"
    return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"


def counted(number: int, what: str) -> str:
    """``1 group``, ``3 groups``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def size(value: float) -> str:
    """Bytes: ``640 B``, ``44.8 MB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f} B"


def times(ratio: float) -> str:
    """A ratio: ``0.52x``, ``12x``; ``-`` of nothing."""
    if math.isnan(ratio):
        return "-"
    return f"{ratio:.2f}x" if 0.095 <= ratio < 9.995 else f"{ratio:.2g}x" if ratio < 1 else f"{ratio:.0f}x"
