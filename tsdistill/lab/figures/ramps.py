"""Colours for what rises: decay, over-realisation, strength, from quiet to strong."""

from __future__ import annotations

QUIETEST, STRONGEST = (0xC9, 0xDD, 0xEE), (0x14, 0x3C, 0x66)


def ramp(count: int) -> list[str]:
    """``count`` blues from the quietest to the strongest; one alone is the strongest."""
    shares = [k / (count - 1) for k in range(count)] if count > 1 else [1.0]
    return [
        "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(QUIETEST, STRONGEST, strict=True))
        for share in shares
    ]
