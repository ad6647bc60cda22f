"""Arrays and JSON as a page carries them: little-endian base64, and nothing that could close a script."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np

MISSING = 255
"""Code of NaN in a quantised table: the largest value of a byte; 0 to 254 are steps of the range."""


def packed(values: np.ndarray, kind: str) -> str:
    """Base64 of little-endian numbers of a NumPy ``kind`` such as ``f8``; 0 where they are not finite."""
    values = np.asarray(values)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    return base64.b64encode(np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()).decode()


def quantised(table: np.ndarray) -> dict[str, Any]:
    """A table in 255 steps, row by row: ``low + q / 254 * (high - low)``; NaN is step 255.

    The range is ``[0, largest]``, or symmetric about 0 when some entries are negative.
    """
    high = float(np.nanmax(np.abs(table), initial=0.0)) or 1.0
    low = -high if np.nanmin(table, initial=0.0) < 0 else 0.0
    steps = np.rint((table - low) / (high - low) * (MISSING - 1))
    codes = np.where(np.isnan(table), MISSING, np.nan_to_num(steps)).astype(np.uint8)
    return {"low": low, "high": high, "codes": packed(codes, "u1")}


def json_text(contents: Any) -> str:
    """JSON that may stand inside a ``<script>``: ASCII without ``<``, ``>`` and ``&``, and without NaN."""
    text = json.dumps(contents, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def compressed(text: str) -> str:
    """Text as base64 of gzip, the same bytes every time."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
