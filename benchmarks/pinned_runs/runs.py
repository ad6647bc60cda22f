"""The runs: each takes an empty folder and returns figures that a change of structure leaves as they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pinned_runs import inputs
from pinned_runs.digests import file_digest, json_digest, tensor_digest
from pinned_runs.toolkit import Figures, plan_figures, test_figures, tsdistill, weight_figures

_SIZE = ("--input-size", "1x28x28")


def _trained(name: str) -> tuple[str, ...]:
    """One of the trained networks as a command takes it."""
    return (inputs.weights(name), "--arch", inputs.arch(name), *_SIZE)


def _teacher(name: str, file: str | None = None) -> tuple[str, ...]:
    """One of them as a teacher, with other weights where there is a ``file``."""
    return ("--teacher", file or inputs.weights(name), "--teacher-arch", inputs.arch(name))


def _metrics(comparison: dict[str, Any]) -> Figures:
    """The metrics of the last model of a comparison."""
    return {f"compared: {name}": value for name, value in comparison["models"][-1]["metrics"].items()}


def prune_trained(folder: Path, name: str, macs: str) -> Figures:
    """Prune a trained network with 256 images; load the file and judge it."""
    import tsdistill as toolkit

    data = inputs.image_file(folder, 512)
    budget = ("--macs", macs, "--data", data, "--samples", "256", "--seed", "0")
    result = tsdistill(folder, "prune", *_trained(name), *budget, "--output", "small.safetensors")
    model = toolkit.load(folder / "small.safetensors", trust=True)
    return {
        **plan_figures(result["plan"]),
        **weight_figures(folder / "small.safetensors"),
        **test_figures(model),
        **_metrics(result["comparison"]),
    }


def prune_swin(folder: Path) -> Figures:
    """Prune a Swin transformer of timm, with random weights, to 0.6 of its MACs."""
    file = inputs.random_weights(folder, inputs.swin)
    data = inputs.normal_file(folder, 64, 3, 56, 56)
    options = ("--macs", "0.6", "--data", data, "--samples", "48", "--batch-size", "16")
    result = tsdistill(folder, "prune", file, "--arch", inputs.SWIN, *options, "-o", "small.safetensors")
    return {**plan_figures(result["plan"]), **weight_figures(folder / "small.safetensors")}


def prune_llama(folder: Path) -> Figures:  # noqa: ARG001
    """Prune a Llama of transformers, with random weights, from token ids, in Python."""
    import tsdistill as toolkit

    tokens = inputs.tokens(96, 12)
    model = inputs.llama()
    small = toolkit.prune(model, data=tokens, example_input=tokens[:1], params=0.7, samples=64)
    with torch.no_grad():
        outputs = small(tokens[:8]).logits
    return {
        "params": sum(parameter.numel() for parameter in small.parameters()),
        "weights": tensor_digest(small.state_dict()),
        "outputs": tensor_digest({"outputs": outputs}),
    }


def plan_whole_heads(folder: Path) -> Figures:
    """Plan for the vision transformer with constraints: whole heads, multiples of 4, some groups alone."""
    data = inputs.image_file(folder, 256)
    budget = ("--params", "0.6", "--heads", "whole", "--round-to", "4", "--min-nodes", "8")
    groups = ("--exclude", "blocks.0.*", "--no-keep-strong")
    options = (*budget, *groups, "--data", data, "--samples", "192", "--dry-run")
    return plan_figures(tsdistill(folder, "prune", *_trained("vit"), *options))


def prune_to_drop(folder: Path) -> Figures:
    """The largest cut of the MobileNet that loses at most two points, in one round, without re-alignment."""
    data = inputs.image_file(folder, 512)
    budget = ("--max-drop", "2", "--rounds", "1", "--no-realign", "--data", data, "--samples", "192")
    result = tsdistill(folder, "prune", *_trained("mobilenet"), *budget, "-o", "small.safetensors")
    return {**plan_figures(result["plan"]), **weight_figures(folder / "small.safetensors")}


def sweep(folder: Path) -> Figures:
    """Two budgets of the MobileNet in one sweep."""
    data = inputs.image_file(folder, 256)
    options = ("--sweep", "0.6,0.3", "--no-joint", "--data", data, "--samples", "128")
    result = tsdistill(folder, "prune", *_trained("mobilenet"), *options, "--output", "sweep")
    figures: Figures = {"rows": json_digest(result["rows"]), **_metrics(result["comparison"])}
    for file in sorted((folder / "sweep").glob("*.safetensors")):
        figures |= {f"{file.stem}: {name}": value for name, value in weight_figures(file).items()}
    return figures


def _report_figures(report: dict[str, Any]) -> Figures:
    """The digest of each part of a report and of each group's nodes, and what the groups add up to."""
    parts = {name: json_digest(value) for name, value in report.items() if isinstance(value, dict | list)}
    nodes = {f"group {group['name']}": json_digest(group) for group in report["groups"]}
    names = ("params", "macs", "params_saved", "macs_saved", "samples", "metric")
    candidates = sum(group["candidates"] for group in report["groups"])
    stable = {name: parts[name] for name in sorted(parts) if name not in {"seconds", "groups", "notes"}}
    return {"candidates": candidates, **{name: report[name] for name in names}, **stable, **nodes}


def analyze_architectures(folder: Path) -> Figures:
    """The nodes of the ResNet-20 beside those of a teacher of another architecture."""
    data = inputs.image_file(folder, 512)
    options = (*_teacher("convnet"), "--data", data, "--samples", "192")
    return _report_figures(tsdistill(folder, "analyze", *_trained("resnet20"), *options))


def analyze_metrics(folder: Path) -> Figures:
    """The nodes of the vision transformer beside those of a copy with noisy weights, by six metrics."""
    data = inputs.image_file(folder, 256)
    metrics = ("correlation", "cosine", "gates", "cka", "cca", "weights")
    chosen = [part for name in metrics for part in ("--metric", name)]
    teacher = _teacher("vit", inputs.noisy_weights(folder, "vit"))
    options = (*teacher, *chosen, "--data", data, "--samples", "128", "--aligned", "0.8")
    return _report_figures(tsdistill(folder, "analyze", *_trained("vit"), *options))


def _training_figures(folder: Path, result: dict[str, Any]) -> Figures:
    """The weights at the end, and every figure of the log."""
    figures = weight_figures(folder / "run" / "model.safetensors")
    for row in result["log"]:
        values = {name: value for name, value in row.items() if name not in {"seconds", "rate", "epoch"}}
        figures |= {f"epoch {row['epoch']}: {name}": value for name, value in values.items()}
    return figures


def distill(folder: Path, *options: str) -> Figures:
    """Ten steps from the trained ResNet-20 to one of half its width, with held-out data."""
    data, held_out = inputs.image_file(folder, 256), inputs.image_file(folder, 256, "t10k")
    common = ("--data", data, "--val", held_out, "--batch-size", "32", "--steps", "10", "--device", "cpu")
    models = (*_trained("resnet20"), *_teacher("resnet20"), "--width", "0.5")
    return _training_figures(
        folder, tsdistill(folder, "distill", *models, *common, *options, "--output", "run")
    )


def train(folder: Path) -> Figures:
    """Ten steps of the trained ConvNet on labels, from images that are read from the data set's own files."""
    data = ("--data", f"fashion-mnist:{inputs.FASHION}", "--mean", "0.286", "--std", "0.353")
    options = ("--samples", "320", "--batch-size", "32", "--steps", "10", "--device", "cpu")
    chosen = ("--augment", "standard", "--label-smoothing", "0.1", "--optimizer", "sgd", "--lr", "0.01")
    result = tsdistill(folder, "train", *_trained("convnet"), *data, *options, *chosen, "--output", "run")
    return _training_figures(folder, result)


def compare(folder: Path) -> Figures:
    """The metrics of the ResNet-20 and of a copy with noise in its weights."""
    noisy = inputs.noisy_weights(folder, "resnet20")
    data = ("--data", inputs.image_file(folder, 500, "t10k"))
    result = tsdistill(folder, "compare", *_trained("resnet20")[:1], noisy, *_trained("resnet20")[1:], *data)
    return {"comparison": json_digest(result), **_metrics(result)}


def lab(folder: Path, name: str) -> Figures:
    """An experiment in its quick form: which claims held, and its tables and data."""
    outcome = tsdistill(folder, "lab", name, "--quick", "--out", "lab")
    figures: Figures = {f"data: {key}": json_digest(value) for key, value in outcome["data"].items()}
    for place, table in enumerate(outcome["tables"]):
        figures[f"table {place + 1}"] = json_digest(table["rows"])
    return {"claims held": sum(claim["held"] for claim in outcome["claims"]), **figures}


def saved(folder: Path) -> Figures:
    """The bytes of saved files, and that their models come back with the same weights and outputs."""
    import timm

    import tsdistill as toolkit

    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=10).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    figures: Figures = {}
    for name in ("model.safetensors", "model.pt"):
        toolkit.save(model, folder / name, arch="timm:resnet10t,num_classes=10")
        again = toolkit.load(folder / name)
        with torch.no_grad():
            outputs = again(x)
        figures |= {
            f"{name}: bytes": file_digest(folder / name),
            f"{name}: weights": tensor_digest(again.state_dict()),
            f"{name}: outputs": tensor_digest({"outputs": outputs}),
        }
    return figures


_NODES = ("--loss", "node-alignment", "--loss", "0.5*hints", "--loss", "0.5*attention-transfer")
_OUTPUTS = ("--loss", "soft-targets:T=4", "--loss", "0.5*cross-entropy", "--ema", "0.9")
_MOVED = ("--augment", "teacher-aware", "--mixup", "0.2", "--warmup", "0.5")

RUNS: dict[str, Callable[[Path], Figures]] = {
    "saved": saved,
    "lab-gradient-rule": partial(lab, name="gradient-rule"),
    "analyze-architectures": analyze_architectures,
    "analyze-metrics": analyze_metrics,
    "plan-whole-heads": plan_whole_heads,
    "distill-outputs": lambda folder: distill(folder, *_OUTPUTS, *_MOVED),
    "distill-nodes": lambda folder: distill(folder, *_NODES),
    "train": train,
    "compare": compare,
    "prune-swin": prune_swin,
    "prune-llama": prune_llama,
    **{
        f"prune-{name}-{macs}": partial(prune_trained, name=name, macs=macs)
        for name in ("vit", "resnet20", "mobilenet")
        for macs in ("0.5", "0.3")
    },
    "prune-to-drop": prune_to_drop,
    "sweep": sweep,
    "lab-specialization": partial(lab, name="specialization"),
}
"""Runs by name, in the order in which they are recorded: quick ones first."""
