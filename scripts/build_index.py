"""Rebuild ``tsdistill/models/recognition/index.json.gz``, by which bare weights are recognised.

Every architecture of the installed timm and torchvision is built on the ``meta`` device, without memory. What
is done is kept in a file, so that an interrupted run goes on where it stopped::

    python scripts/build_index.py [--workers 2] [--done build/index.jsonl]
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parents[1] / "tsdistill" / "models" / "recognition" / "index.json.gz"
PROBE = 9973


def specifications() -> list[str]:
    """Every architecture, with the options that weights in the wild come with; no quantized ones."""
    import timm
    import torchvision

    specs = [f"timm:{name}" for name in timm.list_models()]
    for name in torchvision.models.list_models():
        if name.startswith("quantized_"):
            continue
        if name in ("googlenet", "inception_v3"):
            choices = itertools.product(("", ",aux_logits=false"), ("", ",transform_input=true"))
            specs += [f"torchvision:{name}{''.join(choice)}" for choice in choices]
        elif name.startswith(("fcn_", "deeplabv3_")):
            specs += [f"torchvision:{name}", f"torchvision:{name},aux_loss=true"]
        else:
            specs.append(f"torchvision:{name}")
    return specs


def describe(spec: str) -> dict[str, Any]:
    """Tensors of one architecture by name, with ``PROBE`` classes and with none."""
    import torch

    from tsdistill.models.files.stored_weights import shapes_of, state
    from tsdistill.models.sources import catalog, timm_source, torchvision_source

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    source, _, rest = spec.partition(":")
    name = rest.partition(",")[0]
    module = timm_source if source == "timm" else torchvision_source
    row: dict[str, Any] = {"spec": spec, "classes": module.default_classes(name)}
    for key, option in (("probed", f",num_classes={PROBE}"), ("headless", ",num_classes=0")):
        if row["classes"] is None:
            option = ""
        if key == "headless" and source != "timm":
            continue
        try:
            row[key] = shapes_of(state(catalog.build_empty(spec + option).model))
        except Exception as error:
            row[f"{key}_failed"] = f"{type(error).__name__}: {error}"
    return row


def compact(row: dict[str, Any]) -> list[Any]:
    """The entries of one architecture: with a classifier, and without one where that is another thing."""
    from dataclasses import replace

    from tsdistill.models.recognition.architecture_index import make_entry

    entries = []
    if "probed" in row:
        probe = PROBE if row["classes"] is not None else None
        entries.append(make_entry(row["spec"], row["classes"], probe, row["probed"]))
    if "headless" in row and row["headless"] != row.get("probed"):
        bare = make_entry(row["spec"], row["classes"], None, row["headless"])
        entries.append(replace(bare, named=frozenset(), unnamed=frozenset()))
    return entries


def main() -> None:
    """Build what is missing and write the index."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--done", type=Path, default=Path("build/index.jsonl"), help="what is done so far")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()

    import timm
    import torchvision

    from tsdistill.models.recognition.architecture_index import Index, encode

    begin = time.monotonic()
    versions = [timm.__version__, torchvision.__version__]
    specs = specifications()
    rows: dict[str, dict[str, Any]] = {}
    if args.done.exists():
        for line in args.done.read_text().splitlines():
            row = json.loads(line)
            if row["versions"] == versions and "probed" in row:
                rows[row["spec"]] = row
    args.done.parent.mkdir(parents=True, exist_ok=True)
    missing = [spec for spec in specs if spec not in rows]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, mp_context=context) as pool, args.done.open("a") as done:
        for number, row in enumerate(pool.map(describe, missing, chunksize=4), start=1):
            rows[row["spec"]] = json.loads(json.dumps(row))
            done.write(json.dumps({**row, "versions": versions}) + "\n")
            if number % 100 == 0:
                done.flush()
                print(f"{number} of {len(missing)}, {time.monotonic() - begin:.0f} s", flush=True)
    for spec in specs:
        for key in ("probed_failed", "headless_failed"):
            if key in rows[spec]:
                print(f"{spec}: {key.replace('_', ' ')}: {rows[spec][key][:150]}")
    entries = tuple(entry for spec in specs for entry in compact(rows[spec]))
    data = encode(Index(timm.__version__, torchvision.__version__, entries))
    args.output.write_bytes(data)
    seconds = time.monotonic() - begin
    print(f"{len(specs)} architectures, {len(entries)} entries, {len(data)} bytes, {seconds:.0f} s")


if __name__ == "__main__":
    main()
