"""The checks of ``benchmarks/coverage.py`` on architectures that are hard for a tracer and quick to try; the
others are tried by ``make coverage``."""

import pytest

from benchmarks.covered.checks import MOST, Timed, first, second

HARD = {
    "timm:test_vit": None,
    "timm:test_nfnet": (3, 96, 96),
    "timm:test_mambaout": (3, 96, 96),
    "timm:test_byobnet": (3, 96, 96),
    "timm:efficientvit_b0": (3, 96, 96),
    "timm:ghostnet_050": (3, 96, 96),
    "torchvision:lraspp_mobilenet_v3_large": (3, 96, 96),
}


@pytest.mark.parametrize("spec", HARD)
def test_a_hard_architecture_passes(spec, tmp_path):
    row = first(spec, tmp_path, Timed(), HARD[spec], quick=True)
    second(tmp_path, Timed())
    assert row["macs"] <= MOST
