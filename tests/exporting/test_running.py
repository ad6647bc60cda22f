"""Pruned models under what people run models with: compilers, low precision, other memory layouts, int8."""

import copy
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tests.exporting.networks import EFFICIENTNET, RELATIVE, RESNET, VIT, halved

MODELS = (RESNET, EFFICIENTNET, VIT, RELATIVE)


def inputs(model, batch=2):
    size = tsd.info_of(model).input.size
    return torch.randn(batch, *size, generator=torch.Generator().manual_seed(0))


def close(given, expected, share):
    off = (given.float() - expected).abs().max().item()
    assert off <= share * expected.abs().max().item(), off
    return off


def compiler() -> str:
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return "inductor" if shutil.which("g++") and header.is_file() else "aot_eager"


@pytest.mark.parametrize(
    ("spec", "backend"),
    [
        (VIT, compiler()),
        pytest.param(RESNET, "aot_eager", marks=pytest.mark.slow),
        pytest.param(RELATIVE, "aot_eager", marks=pytest.mark.slow),
    ],
)
def test_compiled(spec, backend):
    model = halved(spec)
    x = inputs(model)
    torch.compiler.reset()
    with torch.no_grad():
        close(torch.compile(model, backend=backend, fullgraph=True)(x), model(x), 1e-4)


@pytest.mark.parametrize("spec", MODELS)
def test_mixed_precision_forward_and_backward(spec):
    model = copy.deepcopy(halved(spec))
    x = inputs(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    with torch.no_grad():
        assert close(y, model(x), 0.1) > 0
    y.float().square().mean().backward()
    grads = [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in grads)


@pytest.mark.parametrize("spec", MODELS)
def test_channels_last(spec):
    model = halved(spec)
    x = inputs(model)
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    with torch.no_grad():
        close(other(x.to(memory_format=torch.channels_last)), model(x), 1e-4)


@pytest.mark.parametrize("spec", MODELS)
def test_int8_dynamic_quantisation(spec):
    model = halved(spec)
    x = inputs(model)
    small = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    layers = sum(isinstance(m, nn.Linear) for m in model.modules())
    assert sum("quantized.dynamic" in type(m).__module__ for m in small.modules()) == layers > 0
    with torch.no_grad():
        assert close(small(x), model(x), 0.1) > 0
