import math

import pytest

from tsdistill.report.numbers import amount, counted, seconds, share, size, times


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (640, "640"),
        (999.6, "1k"),
        (1000, "1k"),
        (11_689_512, "11.7M"),
        (1_814_073_344, "1.81G"),
        (0.25, "0.25"),
        (999_900, "1M"),
    ],
)
def test_amount(value: float, text: str) -> None:
    assert amount(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(2.5, "2.5 s"), (0.412, "412 ms"), (0.0034, "3.4 ms"), (2e-5, "20 µs")]
)
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


def test_share() -> None:
    assert share(1, 3) == "33.3 %"
    assert share(1, 0) == "-"


def test_counted() -> None:
    assert [counted(n, "group") for n in (0, 1, 2)] == ["0 groups", "1 group", "2 groups"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (640, "640 B"), (999.9, "1 kB"), (44_765_128, "44.8 MB"), (3e9, "3 GB")]
)
def test_size(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1, "1.00x"), (0.516, "0.52x"), (2.5, "2.50x"), (12.4, "12x"), (0.0123, "0.012x"), (math.nan, "-")],
)
def test_times(ratio: float, text: str) -> None:
    assert times(ratio) == text
