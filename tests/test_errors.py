"""What errors of others become: one short printable line."""

import errno

import pytest

from tsdistill.errors import TsdistillError, cause_of


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (KeyError(), "KeyError"),
        (RuntimeError("red\x1b[31m"), r"RuntimeError: red\x1b[31m"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (MemoryError(), "it needs more memory than there is"),
    ],
)
def test_the_cause_of_an_error_is_one_printable_line(error: Exception, cause: str) -> None:
    assert cause_of(error) == cause


def test_a_cause_leaves_room_for_the_way_out() -> None:
    message = str(
        TsdistillError(f"the file is damaged ({cause_of(ValueError('x' * 10_000))}); fetch it again")
    )
    assert message.startswith("the file is damaged (ValueError: xxx")
    assert message.endswith("); fetch it again")
    assert len(message) < 300
