"""One model on one batch: its outputs as metrics are given them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.named_outputs import main_name, named_outputs, outputs_or_main
from tsdistill.evaluation.output_layout import Layout
from tsdistill.runtime.finite import non_finite
from tsdistill.runtime.forward import forward
from tsdistill.runtime.nests import tensors


class Run:
    """One model on one batch, run when its output is first asked for.

    Args:
        model: the model.
        x: the inputs.
        who: what messages call the model.

    Attributes:
        model: the model.
    """

    def __init__(self, model: nn.Module, x: Any, who: str) -> None:
        self.model = model
        self._x, self._who = x, who
        self._ran = False
        self._output: Any = None
        self._named: dict[str, Tensor] | None = None
        self._rows: dict[str, Tensor] = {}

    def whole(self) -> Any:
        """The output as the model gives it."""
        if not self._ran:
            self._output = forward(self.model, self._x, self._who.removeprefix("the "))
            self._ran = True
        return self._output

    def sound(self) -> Any:
        """The output as the model gives it; refuses NaN."""
        if any(bool(torch.isnan(t).any()) for t in tensors(self.whole()) if t.is_floating_point()):
            self._refuse("NaN")
        return self._output

    def named(self) -> dict[str, Tensor]:
        """Its floating tensors by name, the first of all where there are none over the batch.

        Raises:
            TsdistillError: it has no floating tensor.
        """
        if self._named is None:
            self._named = outputs_or_main(self.whole())
        return self._named

    @property
    def structured(self) -> bool:
        """Whether the output has tensors over the batch, not a mapping for each sample."""
        return bool(named_outputs(self.whole()))

    def tensor(self, name: str | None = None) -> Tensor:
        """One output, the main one without a name; refuses NaN and infinite values.

        Raises:
            TsdistillError: there is no such output, or a value is not finite.
        """
        output = self.one(main_name(self.named()) if name is None else name)
        self._check(output)
        return output

    def rows(self, name: str, layout: Layout, counted: Tensor | None) -> Tensor:
        """The positions of an output that count, ``[positions, classes]``; refuses NaN and infinite values
        there.

        They are made once: the positions that count are the same for all metrics of a batch, and a copy of
        the scores of a batch of text takes as long as a metric.

        Args:
            name: of the output.
            layout: of the output.
            counted: which positions count, ``None`` for all.
        """
        if name not in self._rows:
            rows = layout.rows(self.one(name))
            kept = rows.flatten(0, -2) if counted is None else rows[counted.to(rows.device)]
            self._check(kept)
            self._rows[name] = kept
        return self._rows[name]

    def one(self, name: str) -> Tensor:
        """One output, whatever its values.

        Raises:
            TsdistillError: there is no such output.
        """
        if name not in self.named():
            raise TsdistillError(f"{self._who} has no output {name!r}; it gives {', '.join(self.named())}")
        return self.named()[name]

    def _check(self, output: Tensor) -> None:
        if (what := non_finite(output)) is not None:
            self._refuse(what)

    def _refuse(self, what: str) -> None:
        kind = type(self.model).__name__
        raise TsdistillError(
            f"{self._who} ({kind}) gives {what} on the data; see that its weights are finite"
        )
