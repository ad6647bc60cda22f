"""``tsdistill layers``: parameters by type of layer."""

from __future__ import annotations

from collections import Counter

import click


@click.command()
@click.argument("model")
def layers(model: str) -> None:
    """Print how many parameters each type of layer of MODEL holds."""
    from tsdistill.plugin_api import load

    counts: Counter[str] = Counter()
    for module in load(model).modules():
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if own:
            counts[type(module).__name__] += own
    for name, count in counts.most_common():
        click.echo(f"{name:24} {count:12,}")
