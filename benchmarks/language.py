"""A model of language, pruned by us and by what others publish: perplexity, processor time, memory.

    python benchmarks/language.py --model FOLDER --calibration TEXT --evaluation TEXT
        [--sequences 32] [--kept 0.9,0.8,0.7,0.5] [--methods ours,wanda-sp,...] [--show]

Every method sees the same sequences of 512 tokens, and none is trained afterwards. Kept is the part of the
parameters of the decoder's layers that stays; embeddings are never cut. Each row runs in a process of its own
with one thread. Rows are kept in ``benchmarks/language.jsonl``: a run goes on where the last one was stopped.

The methods of others are written down here as their papers state them, on widths of feed-forward networks:

- ``magnitude``: the neurons with the smallest weights, gate, up and down together.
- ``wanda-sp``: Wanda's score ``Σ_o |W_oj| ‖x_j‖``, summed over outputs (Sun et al. 2023; An et al. 2023).
- ``wanda-sp+ls``: the same neurons, and each down projection fitted by least squares to its own dense output.
- ``flap``: fluctuation ``var(x_j) ‖W_j‖²``, standardised by layer, one threshold for all layers; what leaves
  is replaced by its mean as a bias (An et al. 2023).
- ``shortgpt``: whole layers by block influence ``1 - cos(input, output)`` (Men et al. 2024).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from record import Record, Row
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
LENGTH = 512
EVALUATED = 32
"""Sequences that perplexity is measured on: 16,384 tokens, of other works than the calibration's."""

KEPT = (0.9, 0.8, 0.7, 0.5)
"""Parts of the layers' parameters that stay."""

METHODS = ("ours", "wanda-sp+ls", "wanda-sp", "flap", "magnitude", "shortgpt")
RIDGE = 1e-3
"""Of the least squares of ``wanda-sp+ls``, relative to the mean of the second moments."""


def texts(model: Any, file: str, sequences: int) -> list[Any]:
    """Inputs of the model, two sequences each."""
    from tsdistill.options.data_options import DataOptions
    from tsdistill.statistics.prepared_data import prepare

    inputs = DataOptions.of({"samples": sequences, "length": LENGTH, "batch_size": 2})
    return [x for x, _ in prepare(model, file, inputs)]


def perplexity(model: Any, batches: list[Any]) -> float:
    """Of the next token."""
    import torch
    from torch.nn.functional import cross_entropy

    total, count = 0.0, 0
    with torch.no_grad():
        for x in batches:
            logits, ids = model(**x, use_cache=False).logits[:, :-1].float(), x["input_ids"][:, 1:]
            total += float(cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="sum"))
            count += ids.numel()
    return math.exp(total / count)


def moments(model: Any, batches: list[Any]) -> list[tuple[Any, Any, int]]:
    """Second moments, sum and rows of what each down projection of the dense model reads."""
    import torch

    layers = model.model.layers
    width = layers[0].mlp.down_proj.in_features
    sums = [[torch.zeros(width, width), torch.zeros(width), 0] for _ in layers]

    def hook(place: int) -> Callable[..., None]:
        def look(_: Any, args: tuple[Any, ...]) -> None:
            rows = args[0].flatten(0, -2)
            sums[place][0] += rows.T @ rows
            sums[place][1] += rows.sum(0)
            sums[place][2] += len(rows)

        return look

    handles = [layer.mlp.down_proj.register_forward_pre_hook(hook(n)) for n, layer in enumerate(layers)]
    with torch.no_grad():
        for x in batches:
            model.model(**x, use_cache=False)
    for handle in handles:
        handle.remove()
    return [(gram, total, rows) for gram, total, rows in sums]


def keep_neurons(mlp: Any, keep: Any, weight: Any = None, bias: Any = None) -> None:
    """Leave a feed-forward network only some of its neurons."""
    from torch import nn

    mlp.gate_proj.weight = nn.Parameter(mlp.gate_proj.weight[keep].clone())
    mlp.up_proj.weight = nn.Parameter(mlp.up_proj.weight[keep].clone())
    down = mlp.down_proj.weight[:, keep] if weight is None else weight
    mlp.down_proj.weight = nn.Parameter(down.clone().float())
    if bias is not None:
        mlp.down_proj.bias = nn.Parameter(bias.clone().float())


def by_width(model: Any, batches: list[Any], kept: float, method: str) -> None:
    """The methods that cut the widths of feed-forward networks, in place."""
    import torch

    layers = model.model.layers
    block = sum(p.numel() for p in layers[0].parameters())
    neuron = sum(p.numel() for p in layers[0].mlp.parameters()) // layers[0].mlp.down_proj.in_features
    width = layers[0].mlp.down_proj.in_features - math.ceil((1 - kept) * block / neuron)
    seen = moments(model, batches) if method != "magnitude" else [(None, None, 0)] * len(layers)
    scores = []
    for layer, (gram, total, rows) in zip(layers, seen, strict=True):
        mlp, down = layer.mlp, layer.mlp.down_proj.weight
        if method == "magnitude":
            squares = mlp.gate_proj.weight.square().sum(1) + mlp.up_proj.weight.square().sum(1)
            scores.append(squares + down.square().sum(0))
        elif method == "flap":
            variance = gram.diagonal() / rows - (total / rows).square()
            score = variance * down.square().sum(0)
            scores.append((score - score.mean()) / score.std())
        else:
            scores.append(down.abs().sum(0) * gram.diagonal().sqrt())
    threshold = torch.cat(scores).sort(descending=True)[0][width * len(layers) - 1]
    for layer, (gram, total, rows), score in zip(layers, seen, scores, strict=True):
        least = threshold if method == "flap" else score.sort(descending=True)[0][width - 1]
        chosen = score >= least
        keep, down, weight, bias = chosen.nonzero()[:, 0], layer.mlp.down_proj.weight, None, None
        if method == "wanda-sp+ls":
            ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(keep))
            cross = (down @ gram)[:, keep] + RIDGE * gram.diagonal().mean() * down[:, keep]
            weight = torch.linalg.solve((gram[keep][:, keep] + ridge).double(), cross.double().T).T
        if method == "flap":
            bias = down[:, ~chosen] @ (total / rows)[~chosen]
        keep_neurons(layer.mlp, keep, weight, bias)


def by_depth(model: Any, batches: list[Any], kept: float) -> None:
    """ShortGPT: the layers that turn their input least leave."""
    import torch
    from torch import nn
    from torch.nn.functional import cosine_similarity

    layers = model.model.layers
    influence = torch.zeros(len(layers))

    def hook(place: int) -> Callable[..., None]:
        def look(_: Any, args: tuple[Any, ...], output: Any) -> None:
            behind = output if isinstance(output, torch.Tensor) else output[0]
            influence[place] += (1 - cosine_similarity(args[0], behind, dim=-1)).sum()

        return look

    handles = [layer.register_forward_hook(hook(n)) for n, layer in enumerate(layers)]
    with torch.no_grad():
        for x in batches:
            model.model(**x, use_cache=False)
    for handle in handles:
        handle.remove()
    stay = influence.sort(descending=True)[1][: math.floor(kept * len(layers))].sort()[0]
    model.model.layers = nn.ModuleList([layers[int(n)] for n in stay])
    model.config.num_hidden_layers = len(stay)


def measure(options: argparse.Namespace, method: str, kept: float) -> dict[str, Any]:
    """One row."""
    import torch

    import tsdistill as tsd

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dense = tsd.load(options.model)
    batches = texts(dense, options.calibration, options.sequences)
    start, model = time.process_time(), dense
    if method == "ours" and kept < 1:
        blocks = sum(p.numel() for p in dense.model.layers.parameters())
        total = sum(p.numel() for p in dense.parameters())
        part = 1 - (1 - kept) * blocks / total
        inputs = {"samples": options.sequences, "length": LENGTH, "batch_size": 2}
        model = tsd.prune(dense, data=options.calibration, budget={"params": part}, inputs=inputs)
    elif kept < 1:
        with torch.no_grad():
            if method == "shortgpt":
                by_depth(model, batches, kept)
            else:
                by_width(model, batches, kept, method)
    spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = sum(p.numel() for p in model.model.layers.parameters())
    judged = texts(tsd.load(options.model), options.evaluation, EVALUATED)
    return {
        "perplexity": perplexity(model, judged),
        "seconds": spent,
        "memory": peak,
        "layers_params": size,
    }


def run(options: argparse.Namespace, record: Record) -> None:
    """Measure what has not been measured."""
    cells = [(method, kept) for kept in options.kept for method in options.methods]
    for method, kept in [("dense", 1.0), *cells]:
        key = {
            "method": method,
            "kept": kept,
            "sequences": options.sequences,
            "model": Path(options.model).name,
        }
        if name_of(key) in record.read():
            continue
        command = [sys.executable, __file__, "--one", json.dumps([method, kept]), *sys.argv[1:]]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        if done.returncode:
            print(f"{method} {kept}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            continue
        record.add({**key, **json.loads(done.stdout.splitlines()[-1])})
        print(method, kept, done.stdout.splitlines()[-1], file=sys.stderr)


def name_of(row: Row) -> tuple[str, ...]:
    """What a row is found by."""
    return tuple(str(row[key]) for key in ("model", "sequences", "kept", "method"))


def show(options: argparse.Namespace, record: Record) -> None:
    """One table."""
    rows = {(row["method"], row["kept"]): row for row in record.read().values() if fits(row, options)}
    dense = rows.get(("dense", 1.0))
    table = Table("method", *(f"{kept:g} kept" for kept in options.kept), "processor s", "peak GB")
    for method in options.methods:
        mine = [rows.get((method, kept)) for kept in options.kept]
        cells = [f"{row['perplexity']:.1f}" if row else "" for row in mine]
        known = [row for row in mine if row]
        if known:
            spent, peak = max(row["seconds"] for row in known), max(row["memory"] for row in known)
            table.add_row(method, *cells, f"{spent:.0f}", f"{peak / 1e9:.1f}")
    figure = f"{dense['perplexity']:.2f}" if dense else "not measured"
    Console().print(f"Perplexity, {options.sequences} sequences of {LENGTH} tokens; dense {figure}", table)


def fits(row: Row, options: argparse.Namespace) -> bool:
    """Whether a row belongs to the table that is asked for."""
    return (row["model"], row["sequences"]) == (Path(options.model).name, options.sequences)


def main() -> None:
    """Run what is missing and show the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a Llama-like model of transformers")
    parser.add_argument("--calibration", required=True, help="a text file")
    parser.add_argument("--evaluation", required=True, help="a text file of other works")
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument(
        "--kept", type=lambda t: [float(k) for k in t.split(",")], default=[0.9, 0.8, 0.7, 0.5]
    )
    parser.add_argument("--methods", type=lambda t: t.split(","), default=list(METHODS))
    parser.add_argument("--show", action="store_true", help="only show what there is")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options, *json.loads(options.one))))
        return
    record = Record(HERE / "language.jsonl", name_of)
    if not options.show:
        run(options, record)
    show(options, record)


if __name__ == "__main__":
    main()
