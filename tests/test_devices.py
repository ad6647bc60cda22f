import pytest

from tsdistill.devices import check_device
from tsdistill.errors import TsdistillError


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "meta", ""])
def test_a_device_that_cannot_compute(name: str) -> None:
    with pytest.raises(TsdistillError, match=f"'{name}'.*cpu") as caught:
        check_device(name)
    assert str(caught.value).isprintable()


def test_a_device_that_can() -> None:
    assert check_device("cpu") == "cpu"
