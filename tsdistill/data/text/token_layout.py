"""From rows of tokens to what a model of text reads, and the labels that it is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsdistill.data.text.text_spec import CAUSAL, CLASSES, MASKED, PAIRS, TextSpec
from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written
from tsdistill.options.output_options import IGNORED
from tsdistill.runtime.seeds import mixed_seed

PADDING = -1
"""What stands in rows of tokens where there is none; no id is negative."""

_HIDDEN = 0.15
"""Part of the tokens that a masked model has to tell: that of BERT (Devlin et al., 2019)."""

_REPLACED, _RANDOM = 0.8, 0.1
"""Parts of these that become the mask, and any token; the rest stay as they are (likewise)."""

_MASK_SEED = 11
"""Stream number of the random numbers that hide tokens."""


@dataclass(frozen=True, eq=False)
class TokenLayout:
    """Lays rows of tokens out for a model.

    Attributes:
        spec: how the model reads text.
        name: what messages call the text.
        padding: id that stands where there is no token; the attention mask is 0 there.
        mask: id that hides a token, ``None`` where there is none.
    """

    spec: TextSpec
    name: str
    padding: int
    mask: int | None = None

    @property
    def labelled(self) -> bool | None:
        """Whether samples have labels, ``None`` where the data decide."""
        known = {CAUSAL: True, MASKED: True, PAIRS: True, CLASSES: None}
        return known.get(self.spec.task, False)

    @property
    def words(self) -> str:
        """What the labels are."""
        return {
            CAUSAL: "labels: the next token",
            MASKED: f"labels: {_HIDDEN:.0%} of the tokens, hidden",
            PAIRS: "labels: the tokens of the target",
        }.get(self.spec.task, "")

    def check(self, tokens: np.ndarray) -> None:
        """See that the model knows every token.

        Raises:
            TsdistillError: an id is beyond its vocabulary.
        """
        largest = int(tokens.max(initial=0))
        if self.spec.vocabulary and largest >= self.spec.vocabulary:
            raise TsdistillError(
                f"{self.name} has the token id {largest} and the model knows {self.spec.vocabulary} tokens: "
                f"the tokenizer does not fit the model; give the model's own with {written('tokenizer')}"
            )

    def sample(self, row: np.ndarray, number: int, other: np.ndarray | None = None, label: Any = None) -> Any:
        """A sample ``(x, y)`` without a batch dimension.

        Args:
            row: ids, `PADDING` where there is none.
            number: of the sample, from which the hidden tokens are drawn.
            other: ids of the target of a pair, likewise.
            label: the class of the text.
        """
        ids = torch.from_numpy(np.array(row, dtype=np.int64))
        present = ids >= 0
        task = self.spec.task
        y: Any = label
        if task == CAUSAL:
            y = torch.cat([ids[1:], ids.new_full((1,), IGNORED)]).masked_fill(~present, IGNORED)
            y = y.masked_fill(y < 0, IGNORED)
        shown = ids.masked_fill(~present, self.padding)
        if task == MASKED:
            shown, y = self._hidden(shown, present, number)
        x: dict[str, Tensor] = {"input_ids": shown}
        if not bool(present.all()) or task in (CLASSES, PAIRS):
            x["attention_mask"] = present.long()
        if task == PAIRS and other is not None:
            target = torch.from_numpy(np.array(other, dtype=np.int64))
            y = target.masked_fill(target < 0, IGNORED)
            before = torch.cat([target.new_full((1,), self.spec.start), target[:-1]])
            x["decoder_input_ids"] = before.masked_fill(before < 0, self.padding)
        return (x if self.spec.named else shown), y

    def _hidden(self, ids: Tensor, present: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Tokens with some hidden, and these as labels; the same ones whenever the sample is read."""
        generator = torch.Generator().manual_seed(mixed_seed(_MASK_SEED, number))
        draw, kind = (torch.rand(ids.shape, generator=generator) for _ in range(2))
        chosen = present & (draw < _HIDDEN)
        if not bool(chosen.any()):
            chosen = present & (draw == draw.masked_fill(~present, 2.0).min())
        anything = torch.randint(max(1, self.spec.vocabulary), ids.shape, generator=generator)
        hidden = torch.where(kind < _REPLACED, torch.full_like(ids, self.mask or 0), ids)
        hidden = torch.where((kind >= _REPLACED) & (kind < _REPLACED + _RANDOM), anything, hidden)
        return torch.where(chosen, hidden, ids), ids.masked_fill(~chosen, IGNORED)
