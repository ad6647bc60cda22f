"""What a model's outputs hold and which labels count, as options say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import OptionField

CLASSES, VALUES, UNUSED = "classes", "values", "unused"

IGNORED = -100
"""The label that PyTorch's ``cross_entropy`` and transformers ignore unless told otherwise."""

OUTPUTS = OptionField(
    help="What an output holds, where it is not plain: classes, classes:DIM, values, or unused.",
    section="Outputs and labels",
    metavar="NAME=KIND,...",
    form="text",
)
IGNORE_INDEX = OptionField(
    help="The label that counts for nothing; so does padding, where an attention mask is 0.",
    section="Outputs and labels",
    metavar="N",
)


def parse_stated(stated: Any, at: str = "") -> dict[str, str]:
    """What the user says of outputs, by name, from text (``"scores=classes,boxes=values"``) or a mapping.

    Raises:
        TsdistillError: it is neither, or says something else than classes, classes:DIM, values or unused.
    """
    if isinstance(stated, Mapping):
        match = {str(name): str(text) for name, text in stated.items()}
    elif isinstance(stated, str):
        pairs = [part.partition("=") for part in stated.split(",") if part.strip()]
        match = {name.strip(): text.strip() for name, _, text in pairs}
    else:
        raise TsdistillError(f"{at}outputs is text or a table such as scores = 'classes', not {stated!r}")
    for name, text in match.items():
        if not name or not re.fullmatch(rf"{CLASSES}(:-?\d+)?|{VALUES}|{UNUSED}", text):
            raise TsdistillError(
                f"{at}outputs: {name}={text}: write NAME=classes, NAME=classes:DIM, NAME=values or "
                "NAME=unused, separated by commas"
            )
    return match
