"""What options take, as types that parse it."""

from __future__ import annotations

import math
import re
from typing import Any

import click


class Size(click.ParamType):
    """``3x224x224`` (also with commas) as a tuple of positive ints."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The tuple; a usage error for anything else."""
        if isinstance(value, tuple):
            return value
        parts = re.split(r"[x,]", value.strip().lower())
        if not all(map(_is_count, parts)):
            self.fail(f"{value!r} is not a size such as 3x224x224, 224 or (vectors) 64", param, ctx)
        return tuple(int(part) for part in parts)


class Figures(click.ParamType):
    """``0.485,0.456,0.406`` as a tuple of floats."""

    name = "figures"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The tuple; a usage error for anything else."""
        if isinstance(value, tuple):
            return value
        try:
            figures = tuple(float(part) for part in value.split(","))
        except ValueError:
            figures = (math.nan,)
        if not all(map(math.isfinite, figures)):
            self.fail(f"{value!r} is not a list of figures such as 0.485,0.456,0.406", param, ctx)
        return figures


class Pair(click.ParamType):
    """``STUDENT_GROUP=TEACHER_GROUP`` as a tuple of two names."""

    name = "pair"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The two names; a usage error for anything else."""
        if isinstance(value, tuple):
            return value
        student, mark, teacher = (part.strip() for part in value.partition("="))
        if not (student and mark and teacher) or "=" in teacher:
            self.fail(f"{value!r} is not a pair such as layer1.0.conv1=layer2.0.conv1", param, ctx)
        return student, teacher


class Positions(click.ParamType):
    """``auto``, ``all`` or a number of positions."""

    name = "positions"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        """What `tsdistill.analyze` takes as ``positions``; a usage error for anything else."""
        if isinstance(value, int):
            return value
        text = value.strip().lower()
        if text in ("auto", "all"):
            return str(text)
        if not _is_count(text):
            self.fail(f"{value!r} is none of auto, all and a number of positions from 1", param, ctx)
        return int(text)


def _is_count(text: str) -> bool:
    """Whether ``text`` is a whole number from 1 to 999,999,999, in ASCII digits."""
    return re.fullmatch(r"0*[1-9][0-9]{0,8}", text) is not None


class Named(click.ParamType):
    """``NAME=VALUE`` as a mapping of one entry."""

    name = "named"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """The mapping; a usage error for anything else."""
        if isinstance(value, dict):
            return value
        name, mark, amount = (part.strip() for part in value.partition("="))
        if not (name and mark and amount):
            self.fail(f"{value!r} is not NAME=VALUE such as energy=0.5", param, ctx)
        return {name: amount}
