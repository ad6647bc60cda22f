import pytest

from tsdistill.report.numbers import amount, counted, seconds, share


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
