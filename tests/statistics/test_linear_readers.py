from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tsdistill.runtime.calls import recorded_calls
from tsdistill.statistics.linear_readers import ReaderCapacity, capacities, capacity
from tsdistill.tracing import Reader

NEITHER, CHANNELS, BOTH = (
    ReaderCapacity(False, False),
    ReaderCapacity(True, False),
    ReaderCapacity(True, True),
)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, centred / self.weight.std((1, 2, 3), keepdim=True), self.bias)


class Padded(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


class Mirrored(nn.Conv3d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (1, 1, 0, 0, 0, 0), mode="replicate"))


class Causal(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (2, 0)))


class Offset(nn.Conv2d):
    """Adds a table of positions of 6 x 6 before it multiplies."""

    def __init__(self) -> None:
        super().__init__(4, 3, 3)
        self.table = nn.Parameter(torch.randn(1, 1, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.table)


class Scaled(nn.Linear):
    def forward(self, x: Tensor, scale: float, *, shift: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) * scale + shift


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), training=True)


class Upsampling(nn.ConvTranspose3d):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, output_size=[9, 9, 9])


class Calls(nn.Module):
    """Calls its layer with other arguments beside the input."""

    def __init__(self, layer: nn.Module, *args: object, **kwargs: object) -> None:
        super().__init__()
        self.layer, self.args, self.kwargs = layer, args, kwargs

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, *self.args, **self.kwargs)


LAYERS: list[tuple[nn.Module, tuple[int, ...], ReaderCapacity]] = [
    (nn.Conv2d(4, 3, 3), (4, 8, 8), BOTH),
    (nn.ConvTranspose1d(4, 3, 4, 2, 1), (4, 8), CHANNELS),
    (nn.ConvTranspose3d(4, 3, 2, 2), (4, 4, 4, 4), CHANNELS),
    (Upsampling(4, 3, 3, 2), (4, 4, 4, 4), CHANNELS),
    (Padded(4, 3, 3), (4, 8, 8), CHANNELS),
    (Mirrored(4, 3, 3), (4, 4, 4, 4), BOTH),
    (Mirrored(4, 6, 3, groups=2, bias=False), (4, 4, 4, 4), BOTH),
    (Causal(4, 3, 3), (4, 9), CHANNELS),
    (Standardised(4, 3, 3), (4, 8, 8), NEITHER),
    (Offset(), (4, 6, 6), NEITHER),
    (Calls(Scaled(4, 3), 2.0, shift=torch.ones(3)), (4,), BOTH),
    (Noisy(4, 3), (4,), BOTH),
]


@pytest.mark.parametrize(
    ("layer", "shape", "expected"), LAYERS, ids=[type(getattr(e[0], "layer", e[0])).__name__ for e in LAYERS]
)
def test_what_a_layer_can_take_over_is_tried_out_on_what_it_is_called_with(
    layer: nn.Module, shape: tuple[int, ...], expected: ReaderCapacity
) -> None:
    torch.manual_seed(0)
    inside = isinstance(layer, Calls)
    model = layer if inside else nn.Sequential(layer)
    name = "layer" if inside else "0"
    readers = {"it": _reader(name)}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert capacities(model, readers, ["it"], torch.randn(1, *shape)) == {"it": expected}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_layer_without_a_recorded_call_takes_nothing_over() -> None:
    assert capacity(nn.Sequential(Padded(4, 3, 3)), _reader("0"), None) == NEITHER
    assert capacity(nn.Sequential(nn.Linear(4, 3)), Reader(None, "0.weight", 1, -1, _COORDS), None) == NEITHER


def test_the_calls_of_a_run_are_recorded_as_they_were_before_anything_changed_them() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(input=x)
            x.zero_()
            return y

    model, x = InPlace(), torch.randn(1, 3)
    kept = x.clone()
    call = recorded_calls(model, ["layer"], x)["layer"]
    assert call.input is not None
    assert torch.equal(call.input, kept)
    assert torch.equal(call.on(2 * kept).kwargs["input"], 2 * kept)


_COORDS = np.arange(4)[:, None]


def _reader(name: str, leaf: str = "weight") -> Reader:
    return Reader(name, f"{name}.{leaf}", 1, 1, _COORDS)


@pytest.mark.parametrize(
    ("layer", "leaf", "expected"),
    [
        (parametrizations.weight_norm(nn.Conv2d(4, 3, 1)), "parametrizations.weight.original1", BOTH),
        (nn.utils.weight_norm(nn.Conv2d(4, 3, 1)), "weight_v", BOTH),
        (prune.ln_structured(nn.Conv2d(4, 3, 1), "weight", 1, 2, 0), "weight_orig", BOTH),
        (parametrizations.spectral_norm(nn.Linear(4, 3)), "parametrizations.weight.original", NEITHER),
        (nn.utils.spectral_norm(nn.Linear(4, 3)), "weight_orig", NEITHER),
        (parametrizations.orthogonal(nn.Linear(4, 4)), "parametrizations.weight.original", NEITHER),
    ],
)
def test_a_weight_that_is_computed_takes_over_where_it_can_be_written(
    layer: nn.Module, leaf: str, expected: ReaderCapacity
) -> None:
    assert capacity(nn.Sequential(layer), _reader("0", leaf), None) == expected


def test_weights_that_two_layers_share_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert capacity(model, _reader("1"), None) == NEITHER
