import base64
import gzip
import json
import math

import numpy as np
import pytest

from tsdistill.report.packed_arrays import MISSING, compressed, json_text, packed, quantised


@pytest.mark.parametrize("kind", ["f8", "f4", "i4", "u2", "u1"])
def test_arrays_come_back(kind: str) -> None:
    values = np.array([[0, 1, 2], [3, 200, 5]])
    back = np.frombuffer(base64.b64decode(packed(values, kind)), f"<{kind}")
    assert back.tolist() == values.ravel().tolist()


def test_float64_is_exact_and_nan_is_nothing() -> None:
    values = np.array([0.1 + 0.2, np.nextafter(0.9, 0), np.nan, np.inf])
    back = np.frombuffer(base64.b64decode(packed(values, "f8")), "<f8")
    assert back[:2].tolist() == values[:2].tolist()
    assert back[2] == 0
    assert np.isfinite(back).all()


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_a_table_in_steps(low: float) -> None:
    table = np.random.default_rng(0).uniform(low, 1, (20, 30))
    table[0, 0], table[1, 1] = 1.0, np.nan
    stored = quantised(table)
    codes = np.frombuffer(base64.b64decode(stored["codes"]), np.uint8).reshape(table.shape)
    back = stored["low"] + codes / (MISSING - 1) * (stored["high"] - stored["low"])
    assert (codes == MISSING).tolist() == np.isnan(table).tolist()
    assert stored["low"] == (0 if low == 0 else -1)
    assert np.nanmax(np.abs(back - table)[codes != MISSING]) <= 0.51 * (1 - low) / (MISSING - 1)


def test_tables_without_anything() -> None:
    for table in (np.zeros((0, 3)), np.zeros((2, 2)), np.full((2, 2), np.nan)):
        stored = quantised(table)
        assert stored["high"] > stored["low"] == 0


def test_json_cannot_leave_its_script() -> None:
    said = {"</script><!--": ["&lt;", "<script>", "é\u2028"]}
    text = json_text(said)
    assert json.loads(text) == said
    assert not set("<>&\u2028") & set(text)
    assert text.isascii()


def test_json_without_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_text([math.nan])


def test_compressed_text_is_the_same_every_time() -> None:
    text = "drawing library ü" * 1000
    assert compressed(text) == compressed(text)
    assert gzip.decompress(base64.b64decode(compressed(text))).decode() == text
