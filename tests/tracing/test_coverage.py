"""The checks of ``benchmarks/coverage.py`` on architectures that are hard for a tracer and quick to try; the
others are tried by ``make coverage``."""

import pytest

from benchmarks.covered.checks import MOST, Timed, first, second

SMALL = (3, 96, 96)
HARD = {
    "timm:convit_tiny": None,
    "timm:crossvit_tiny_240": None,
    "timm:efficientvit_b0": SMALL,
    "timm:ghostnet_050": SMALL,
    "timm:levit_128s": None,
    "timm:nest_tiny_jx": None,
    "timm:swiftformer_xs": SMALL,
    "timm:test_byobnet": SMALL,
    "timm:test_coatnet": None,
    "timm:test_efficientnet_evos": SMALL,
    "timm:test_mambaout": SMALL,
    "timm:test_nfnet": SMALL,
    "timm:test_vit": None,
    "torchvision:lraspp_mobilenet_v3_large": SMALL,
    "torchvision:ssdlite320_mobilenet_v3_large": None,
}
"""Architectures, with the size of a sample where it is not their own."""

ALSO_WHOLE = {
    "timm:convit_tiny": 10,
    "timm:efficientvit_b0": 4,
    "torchvision:ssdlite320_mobilenet_v3_large": 12,
}
"""How many layers stay whole besides those that write the output (a detector's write boxes and scores; a
layer that writes one number a head, where heads stay because the stream gives their size)."""


@pytest.mark.parametrize("spec", HARD)
def test_a_hard_architecture_passes(spec, tmp_path):
    row = first(spec, tmp_path, Timed(), HARD[spec], quick=True)
    second(tmp_path, Timed())
    assert row["macs"] <= MOST
    del row["left"]["reaches the model's output"]
    assert row["left"].total() == ALSO_WHOLE.get(spec, 0)
