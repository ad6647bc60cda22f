"""Write docs/options.md, the tables of all options, from the classes that declare them.

``python scripts/options_page.py`` writes the file; a test holds it to the classes.
"""

from __future__ import annotations

from pathlib import Path

from tsdistill.options import (
    AnalysisOptions,
    DataOptions,
    JudgeOptions,
    RealignOptions,
    SelectionOptions,
    TrainOptions,
)
from tsdistill.options.option_fields import Known, OptionSet, flag, known_fields

PAGE = Path(__file__).parents[1] / "docs" / "options.md"

_CLASSES: tuple[tuple[type[OptionSet], str], ...] = (
    (
        DataOptions,
        "`inputs=` of every function that reads data. `load` takes the first eight (`InputOptions`).",
    ),
    (AnalysisOptions, "`analysis=` of `analyze`, `analyze_training`."),
    (SelectionOptions, "`selection=` of `plan`, `prune`, `prune_result`, `prune_to_drop`, `sweep`."),
    (RealignOptions, "`realignment=` of `prune`, `prune_result`, `prune_to_drop`, `sweep`."),
    (
        JudgeOptions,
        "`judging=` of `compare`, `evaluate`, `prune_to_drop`, `sweep`, which take a metric or a list of "
        "metrics as well.",
    ),
    (TrainOptions, "`options=` of `distill`, `train`."),
)

_HEAD = """# Options

Options are given as objects in Python, as flags on the command line, and by name in a file. In Python a
mapping is as good as an object, and what is not given has the default below:

```python
import tsdistill as tsd

small = tsd.prune(model, data=x, macs=0.5)
small = tsd.prune(model, data=x, macs=0.5, selection={"round_to": 8}, inputs={"batch_size": 64})
small = tsd.prune(model, data=x, budget={"params": "5M"}, selection=tsd.SelectionOptions(exclude="stem*"))
```

Every command takes `--config FILE`: a `.yaml`, `.json` or `.toml` file whose keys are the names of its
options, with dashes or underscores. The command line comes before the file:

```yaml
# tsdistill prune weights.pt --config prune.yaml --macs 0.4
data: photos/
macs: 0.5
round-to: 8
exclude: [stem*, head*]
input-size: [3, 224, 224]
output: small.safetensors
```

A name that does not exist, a value of another type and one out of range are refused in one line before any
work is done; the line names the option as it was written, `round_to` or `--round-to`. Options that were
keywords of functions before (`prune(x, samples=64)`) work for one more version, with a `DeprecationWarning`
that says how they are written now.

This page is written by `python scripts/options_page.py` from the classes in `tsdistill.options`.
"""


def page() -> str:
    """The page's text."""
    parts = [_HEAD]
    for cls, use in _CLASSES:
        parts.append(f"\n## {cls.__name__}\n\n{cls.__doc__}\n\n{use}\n")
        parts.append("| option | default | values | command line | |\n|---|---|---|---|---|")
        parts += [_row(known) for known in known_fields(cls).values()]
        parts.append("")
    return "\n".join(parts)


def _row(known: Known) -> str:
    field = known.field
    default = "" if known.default in (None, (), {}) else f"`{known.default!r}`"
    values = ", ".join([*(f"`{choice}`" for choice in field.choices), *filter(None, [field.range])])
    flags = ", ".join(field.flags or (flag(known.name),))
    shown = f"`{flags}`" if field.metavar is not None else ""
    return f"| `{known.name}` | {default} | {values} | {shown} | {field.help.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
