"""--example-input: models whose inputs a size does not describe, on the command line."""

import pytest
import torch

from tests.cli.conftest import one_line

TEXT = """
import torch
from torch import nn


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out = nn.Embedding(20, 16), nn.Linear(24, 3)
        self.up = nn.Linear(16, 24)

    def forward(self, tokens, scale):
        return self.out(torch.relu(self.up(self.table(tokens))).mean(1) * scale)


def example():
    return torch.arange(1, 7)[None], torch.ones(1, 1)
"""


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.py").write_text(TEXT)
    torch.save({"tokens": torch.arange(1, 7)[None], "scale": torch.ones(1, 1)}, tmp_path / "example.pt")
    return tmp_path


def test_prune_and_compare_with_an_example(fork, text):
    given = ("--example-input", f"{text}/example.pt", "--samples", "16")
    small = f"{text}/small.safetensors"
    done = fork("prune", f"{text}/text.py:Text", "--macs", "0.6", "-o", small, *given)
    assert done.returncode == 0, done.stderr
    example = ("--example-input", f"{text}/text.py:example")
    done = fork("compare", f"{text}/text.py:Text", small, "--trust", *example)
    assert done.returncode == 0, done.stderr
    assert "MACs" in done.stdout


def test_analyze_with_an_example_made_by_a_function(fork, text):
    example = ("--example-input", f"{text}/text.py:example", "--samples", "16")
    done = fork("analyze", f"{text}/text.py:Text", *example)
    assert done.returncode == 0, done.stderr
    assert "table" in done.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--example-input", "nowhere.pt"), "no such file"),
        (("--example-input", "example.pt", "--input-size", "6"), "leave one out"),
    ],
)
def test_bad_examples_are_one_line(fork, text, given, message):
    one_line(fork("analyze", f"{text}/text.py:Text", *given), message)
