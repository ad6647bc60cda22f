import io
from dataclasses import replace

import pytest
from rich.console import Console

from tsdistill.evaluation import Comparison, Traits
from tsdistill.report.comparison_table import comparison_table, figure, metric_title, short_names

TWO = Comparison(
    names=("models/dense.pt", "out/small.safetensors"),
    params=(83, 29),
    macs=(2_000_000, 500_000),
    latency=(0.002, 0.0015),
    metrics=({"top1": 91.5, "kl": 0.0, "iou": 0.75}, {"top1": 90.0, "kl": 0.0123456, "iou": 0.5}),
    data="40 samples",
    file_size=(2_000_000, 1_000),
    latency_spread=(0.0001, 0.0003),
    throughput=(100.0, 1250.0),
    throughput_spread=(1.0, 200.0),
    peak_memory=(10_000, 5_000),
    batch_size=16,
    device="cpu, 1 thread",
    traits={"top1": Traits("%"), "kl": Traits("nats", False), "iou": Traits("px")},
)
FOUR = replace(
    TWO,
    names=("dense.pt", "a.pt", "b.pt", "c.pt"),
    **{
        name: getattr(TWO, name) * 2
        for name in ("params", "macs", "latency", "metrics", "file_size", "latency_spread", "throughput",
                     "throughput_spread", "peak_memory")
    },
)  # fmt: skip


def text(compared: Comparison, kind: str = "", width: int = 300) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(comparison_table(compared, kind))
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def row(shown: str, label: str) -> str:
    (found,) = [line.strip() for line in shown.splitlines() if line.strip().startswith(label)]
    return " ".join(found.removeprefix(label).split())


def test_few_models_are_columns_with_ratios() -> None:
    shown = text(TWO, "some samples")
    for label, cells in {
        "parameters": "83 29 (0.35x)",
        "MACs": "2M 500k (0.25x)",
        "file": "2 MB 1 kB (0.0005x)",
        "latency, batch 1": "2 ms 1.5 ms (0.75x)",
        "samples/s, batch 16": "100 1.25k (12x)",
        "peak memory, batch 16": "10 kB 5 kB (0.50x)",
        "top-1 accuracy": "91.50 % 90.00 %",
        "KL divergence from dense": "0 nats 0.01235 nats",
        "iou": "0.75 px 0.5 px",
    }.items():
        assert row(shown, label) == cells
    assert "Measured on some samples: 40 samples" in shown
    assert "half of the passes lie within 20 % (batch 1) and 16 % (batch 16)" in shown


def test_more_models_are_rows_that_fit_a_terminal() -> None:
    shown = text(FOUR, width=80)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80
    for words in ("What they cost", "What they give, beside dense", "(0.25x)", "90.00 %"):
        assert words in shown
    costs = row(text(FOUR).partition("What they give")[0], "a ")
    assert costs.startswith("29 (0.35x) 500k (0.25x) 1 kB")


def test_only_what_was_measured_is_shown() -> None:
    brief = replace(
        TWO, file_size=(), throughput=(), throughput_spread=(), peak_memory=(), data="", metrics=({}, {})
    )
    shown = text(brief)
    for word in ("samples/s", "peak", "file", "Measured", "Timed", "%"):
        assert word not in shown
    assert "What they give" not in text(replace(FOUR, metrics=({},) * 4))


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (("a/dense.pt", "b/small.safetensors"), ("dense", "small")),
        (("dense.pt", "dense.safetensors"), ("dense.pt", "dense.safetensors")),
        (("a/m.pt", "b/m.pt"), ("a/m.pt", "b/m.pt")),
        (("timm:resnet18.a1_in1k", "m0.5.pth"), ("timm:resnet18.a1_in1k", "m0.5")),
        (("nets/code.py:factory", "pruned"), ("code.py:factory", "pruned")),
    ],
)
def test_names_are_short_and_differ(names: tuple[str, ...], short: tuple[str, ...]) -> None:
    assert short_names(names) == short


def test_figures_have_their_unit() -> None:
    assert figure(TWO, "top1", 100.0) == "100.00 %"
    assert figure(TWO, "kl", 0.5) == "0.5 nats"
    assert figure(TWO, "unheard", float("inf")) == "inf"


def test_a_metric_of_one_output_names_it() -> None:
    assert metric_title("kl", "dense") == "KL divergence from dense"
    assert metric_title("kl@scores", "dense") == "scores: KL divergence from dense"
    assert metric_title("iou@boxes", "dense") == "boxes: iou"
