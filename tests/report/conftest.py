"""One small report: a student of nine nodes; some copy the teacher's three, one is dead, one is weak."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import tsdistill as tsd


@pytest.fixture(scope="session")
def teacher() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def student(teacher: nn.Sequential) -> nn.Sequential:
    """Nodes 0-2 are the teacher's, 3-5 the same at twice the scale, 6 is dead, 7 is weak, 8 is on its own."""
    generator = torch.Generator().manual_seed(1)
    copies = teacher[0]
    assert isinstance(copies, nn.Linear)
    first, second = nn.Linear(6, 9), nn.Linear(9, 2)
    with torch.no_grad():
        first.weight.normal_(generator=generator)
        second.weight.normal_(generator=generator)
        first.bias.zero_()
        for copied in range(3):
            for place, scale in ((copied, 1.0), (copied + 3, 2.0)):
                first.weight[place] = scale * copies.weight[copied]
                first.bias[place] = scale * copies.bias[copied]
        first.weight[6] = 0
        first.bias[6] = -1
        second.weight[:, 7] = 1e-6
    return nn.Sequential(first, nn.ReLU(), second).eval()


@pytest.fixture(scope="session")
def samples() -> torch.Tensor:
    return torch.randn(500, 6, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="session")
def report(student: nn.Module, teacher: nn.Module, samples: torch.Tensor) -> tsd.AlignmentReport:
    return tsd.analyze(student, teacher, samples)


@pytest.fixture(scope="session")
def alone(student: nn.Module, samples: torch.Tensor) -> tsd.AlignmentReport:
    return tsd.analyze(student, data=samples)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, headless."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield running
        running.close()
