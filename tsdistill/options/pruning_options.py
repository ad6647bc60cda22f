"""What may be cut and in which order, what is done about the nodes that stay, and who judges."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import OptionSet, option
from tsdistill.options.output_options import IGNORE_INDEX, IGNORED, OUTPUTS, parse_stated

HEADS = ("score", "whole", "size")

BUDGETS = ("macs", "params", "nodes", "latency", "memory")
"""Costs that have an option of their own on the command line; others are named with ``--budget``."""

RECONSTRUCTION = "reconstruction"
"""The toolkit's own selection criterion."""

JUDGED = 4096
"""At most so many samples judge a model: the standard error of an accuracy of 90 % is half a point."""

MOST_ROUNDS = 1000
"""Rounds at most that can be asked for. A thousand keep 99.93 % each on the way to half; more cut hardly
anything each, and a slip of the keyboard filled the memory with limits before the first began."""


@dataclass(frozen=True, kw_only=True)
class SelectionOptions(OptionSet):
    """Which nodes may leave, and how they are ordered."""

    min_nodes: int | None = option(
        None,
        "Nodes that stay in every group; without it a tenth, at least one.",
        section="What may be cut",
        metavar="N",
        least=1,
    )
    round_to: int | None = option(
        None, "Widths that change end at a multiple of N.", section="What may be cut", metavar="N", least=1
    )
    heads: str = option(
        "score",
        "What leaves an attention layer: whole heads, as much of every head (its size), or what costs less. "
        "With a teacher, or lossless, heads go whole.",
        section="What may be cut",
        choices=HEADS,
        metavar="",
    )
    uniform: bool | None = option(
        None,
        "Whether all blocks of a stack end with equal widths, which a configuration can say, each fitted to "
        "the dense model's stream; without either, for models of transformers that read text.",
        section="What may be cut",
        metavar="",
        form="switch",
    )
    only: Sequence[str] | str = option(
        (),
        "Groups that may be pruned, such as 'layer3.*'; the others are not.",
        section="What may be cut",
        metavar="PATTERN",
        form="texts",
    )
    exclude: Sequence[str] | str = option(
        (), "Groups that are not pruned.", section="What may be cut", metavar="PATTERN", form="texts"
    )
    importance: Any = option(
        RECONSTRUCTION,
        "What selects: magnitude, batchnorm-scale, taylor, fpgm, wanda, or a plugin's criterion (see "
        "`tsdistill plugins`); without it reconstruction, the toolkit's own.",
        section="What may be cut",
        metavar="NAME",
        form="text",
    )
    keep_strong: bool = option(
        True,
        "Whether the teacher's nodes weigh by their strength or all the same (the toolkit's own criterion "
        "only).",
        section="What may be cut",
        metavar="",
        form="switch",
    )


@dataclass(frozen=True, kw_only=True)
class RealignOptions(OptionSet):
    """What is done about the nodes that stay, and in how many rounds."""

    realign: bool | None = option(
        None,
        "Whether nodes that stay are fitted back to what they were, by least squares; without either, when "
        "the data are real.",
        section="Re-alignment",
        metavar="",
        form="switch",
    )
    joint: bool = option(
        True,
        "Whether re-alignment also moves the layers of a block together; that takes most of its time.",
        section="Re-alignment",
        metavar="",
        form="switch",
    )
    fast: bool = option(
        False,
        "Re-align every layer by itself only: about half the time, at a larger error.",
        section="Re-alignment",
        metavar="",
    )
    rounds: int | None = option(
        None,
        "In how many rounds of observing, cutting and re-aligning; without it one, or as many as let each "
        "keep a fifth.",
        section="Re-alignment",
        metavar="N",
        least=1,
        most=MOST_ROUNDS,
    )

    @property
    def moves_blocks(self) -> bool:
        """Whether the layers of a block are moved together."""
        return self.joint and not self.fast


@dataclass(frozen=True, kw_only=True)
class JudgeOptions(OptionSet):
    """What models are judged by."""

    metric: Any = option(
        None,
        "What is measured on the data (see `tsdistill plugins`); give it again for more. Without it, what "
        "goes with the outputs; NAME@OUTPUT judges one of several.",
        section="Comparison",
        metavar="NAME",
        form="texts",
    )
    outputs: Mapping[str, str] = dataclasses.field(default_factory=dict, metadata={"option": OUTPUTS})
    ignore_index: int = dataclasses.field(default=IGNORED, metadata={"option": IGNORE_INDEX})
    judged: int = option(JUDGED, "At most so many samples judge pruned models.", least=1)

    @classmethod
    def of(cls, value: Any, where: str = "") -> Self:
        """The options that a caller gives; a metric or several of them stand for ``{"metric": ...}``."""
        is_metric = isinstance(value, str | list | tuple) or callable(value)
        return super().of({"metric": value} if is_metric else value, where)

    @classmethod
    def converted(cls, name: str, value: Any, at: str) -> Any:
        """Outputs from text."""
        return parse_stated(value or {}, at) if name == "outputs" else value

    def one_metric(self) -> Any:
        """The one metric, ``None`` for the one that goes with the data and the outputs.

        Raises:
            TsdistillError: several are named.
        """
        if self.metric is None or isinstance(self.metric, str) or callable(self.metric):
            return self.metric
        if len(self.metric) != 1:
            raise TsdistillError(f"one metric judges, {len(self.metric)} are named; leave the others out")
        return self.metric[0]
