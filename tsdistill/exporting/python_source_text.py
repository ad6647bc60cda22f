"""The text of a Python file that builds a model from its weights and does not import tsdistill."""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tsdistill.exporting import literals
from tsdistill.exporting.export_inputs import Example
from tsdistill.exporting.factory_source import Factory
from tsdistill.models import attention, constant_modules, widths
from tsdistill.models.files.header import Header
from tsdistill.models.info import Attribute
from tsdistill.models.replacements import Replacement

IMPORTS = (
    "import torch",
    "from safetensors.torch import load_file",
    "from torch import nn",
    "from torch.utils._pytree import tree_leaves",
)

PLACE = '''
def place(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Give every parameter and buffer the stored tensor of its name, whatever its shape was."""
{held}    wanted = {{*model.state_dict(){buffers}}}
    if wanted != set(tensors):
        raise ValueError(f"these are not the tensors of this model: {{sorted(wanted ^ set(tensors))[:3]}}")
    shared: dict[int, nn.Parameter] = {{}}
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{{path}}." if path else ""
        for leaf, old in module._parameters.items():
            if old is not None:
                tensor = tensors[prefix + leaf]
                new = nn.Parameter(tensor.clone(), requires_grad=old.requires_grad)
                module._parameters[leaf] = shared.setdefault(id(tensor), new)
        for leaf in module._buffers:
            if prefix + leaf in tensors:
                module._buffers[leaf] = tensors[prefix + leaf].clone()
'''

HELD = """\
    for name in BUFFERS:
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        if leaf not in module._buffers:
            vars(module).pop(leaf, None)
            module.register_buffer(leaf, None, persistent=False)
"""

NO_BUFFERS = {"buffers": "", "held": ""}

CONSTANTS = """\
    for name, constants in CONSTANTS.items():
        for key, value in constants.items():
            setattr(model.get_submodule(name), key, value)
"""

TIED = "    tensors |= {alias: tensors[name] for alias, name in TIED.items()}\n"

ORDERS = """\
    for name, order in ORDERS.items():
        back = [order.index(d) for d in range(len(order))]
        tensors[name] = tensors[name].permute(order).contiguous().permute(back)
"""

FIT_ATTENTION = """\
        if isinstance(module, nn.MultiheadAttention):
            fit_attention(module)
        else:
            sync_module(module)"""

CHECK = '''
def check() -> None:
    """Compare with what the model computed when this file was written."""
    model = build()
    with torch.no_grad():
        values = outputs(model({stars}sample()))
    difference = max((abs(a - b) for a, b in zip(values, OUTPUTS, strict=True)), default=0.0)
    largest = max(map(abs, OUTPUTS), default=0.0)
    count = sum(p.numel() for p in model.parameters())
    print(f"{{count:,}} parameters, largest difference {{difference:.3g}} of outputs up to {{largest:.3g}}")
    if not difference <= 1e-3 * largest:
        raise SystemExit("it does not compute what it computed when this file was written")


if __name__ == "__main__":
    check()
'''

OUTPUT_VALUES = 16
"""Values of the output that the file keeps for its own check: enough to notice a wrong layer, few enough to
read.
"""


@dataclass(frozen=True)
class Content:
    """What goes into the file.

    Attributes:
        factory: what builds the architecture.
        header: what `tsdistill.save` says of the model besides its tensors.
        example: an input.
        parameters: how many there are.
        attends: whether the model has an ``nn.MultiheadAttention``, whose widths may have come apart.
    """

    factory: Factory
    header: Header
    example: Example
    parameters: int
    has_attention: bool = False


def text(content: Content, path: Path, outputs: Sequence[float] = (0.0,)) -> str:
    """The whole file.

    Args:
        content: the model.
        path: where the file will be; its weights lie beside it.
        outputs: what it computes for its own sample, as its function ``outputs`` shortens it.

    Raises:
        TsdistillError: the example input holds objects that cannot be written as Python.
    """
    header = content.header
    parts = [
        _module_docstring(content, path),
        _imports(content),
        _figures(header, path, outputs),
        _build(content),
        PLACE.format(**({"buffers": ", *BUFFERS", "held": HELD} if header.info.buffers else NO_BUFFERS)),
        *_definitions(content),
        _sample_function(content.example),
        _outputs_function(),
        CHECK.format(stars="**" if content.example.kwargs else "*"),
    ]
    head, rest = parts[:3], parts[3:]
    return (
        "\n\n".join(part.strip() for part in head) + "".join(f"\n\n\n{part.strip()}" for part in rest) + "\n"
    )


def _module_docstring(content: Content, path: Path) -> str:
    factory = content.factory
    note = f"\n{factory.note}\n" if factory.note else ""
    return f'''"""{factory.title} at the widths of its weights: {content.parameters:,} parameters.

Written by tsdistill, which is not needed: {factory.package}, torch and safetensors are. The weights are in
{path.with_suffix(".safetensors").name} beside this file.
{note}
    from {path.stem} import build
    model = build()  # in evaluation mode; model.train() to train it further

`python {path.name}` checks that it computes what it computed when this file was written.
"""'''


def _imports(content: Content) -> str:
    factory = content.factory
    lines = {*IMPORTS, *(ast.unparse(node) for node in _own_imports(content))}
    if not factory.own_code:
        lines.add(factory.imported)
    ordered = sorted(lines, key=lambda line: (line.startswith("from"), line.split()[1]))
    blocks = ["from pathlib import Path", "\n".join(ordered)]
    return "\n\n".join([*blocks, factory.imported] if factory.own_code else blocks)


def _figures(header: Header, path: Path, outputs: Sequence[float]) -> str:
    spec = header.info.input
    lines = [f'WEIGHTS = Path(__file__).with_name("{path.with_suffix(".safetensors").name}")']
    if spec is not None and spec.mean is not None:
        lines += ["", "# How images in [0, 1] become inputs: less MEAN, over STD, channel by channel."]
        lines += [f"MEAN = {literals.figures(spec.mean)}", f"STD = {literals.figures(spec.std or (1.0,))}"]
    if header.info.attributes:
        lines += ["", "# Shape constants of modules that are not those of the architecture."]
        lines += literals.table("CONSTANTS", _by_module(header.info.attributes).items())
    if header.info.buffers:
        lines += ["", "# Buffers, or plain tensors, that are stored although a state dict leaves them out."]
        lines += ["BUFFERS = (", *(f"    {literals.quoted(name)}," for name in header.info.buffers), ")"]
    if header.tied:
        lines += ["", "# Names that share the parameter of another name."]
        lines += literals.table("TIED", header.tied.items())
    if header.orders:
        lines += ["", "# Dimensions from the outermost in memory to the innermost."]
        lines += literals.table("ORDERS", header.orders.items())
    lines += ["", "# What `check` compares with."]
    lines += ["OUTPUTS = (", *(f"    {value!r}," for value in outputs), ")"]
    return "\n".join(lines)


def _build(content: Content) -> str:
    factory, header = content.factory, content.header
    return (
        "def build(weights: str | Path = WEIGHTS) -> nn.Module:\n"
        '    """Build the architecture and give it the stored tensors, widths and shape constants."""\n'
        f"    model = {factory.call}\n"
        f"{_replaced(header.replaced)}"
        "    tensors = load_file(weights)\n"
        f"{ORDERS if header.orders else ''}{TIED if header.tied else ''}"
        "    place(model, tensors)\n"
        f"{CONSTANTS if header.info.attributes else ''}"
        "    for module in reversed(list(model.modules())):\n"
        f"{FIT_ATTENTION if content.has_attention else '        sync_module(module)'}\n"
        "    return model.eval()\n"
    )


def _replaced(replacements: Iterable[Replacement]) -> str:
    """Statements that put modules without work in the place of others; none where there are none."""
    lines = []
    for each in replacements:
        if each.passes:
            new = f"PassThrough({each.source!r})"
        else:
            options = {
                name: getattr(each, name) for name in ("rank", "place", "axis", "channels", "writable")
            }
            keywords = ", ".join(f"{name}={value!r}" for name, value in options.items())
            new = f"Constant({each.source!r}, {each.form!r}, {each.sizes!r}, {keywords})"
        lines.append(f"        {literals.quoted(each.module)}: {new},\n")
    if not lines:
        return ""
    return "    replaced: dict[str, nn.Module] = {\n" + "".join(lines) + "    }\n    put(model, replaced)\n"


def _definitions(content: Content) -> list[str]:
    """The constants, functions and classes of this package that the file carries."""
    definitions = []
    for module in _copied_modules(content):
        source = inspect.getsource(module)
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                if node.name in ("sync_widths", "_sync_registered", "any_widths"):
                    continue
            elif not isinstance(node, ast.Assign):
                continue
            definitions.append(ast.get_source_segment(source, node) or "")
    return definitions


def _own_imports(content: Content) -> list[ast.stmt]:
    """The imports that those need."""
    body = [node for module in _copied_modules(content) for node in ast.parse(inspect.getsource(module)).body]
    needless = ("__future__", "collections", "contextlib", "tsdistill")
    return [
        node
        for node in body
        if isinstance(node, ast.Import)
        or (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] not in needless)
    ]


def _copied_modules(content: Content) -> list[ModuleType]:
    replaced = [constant_modules] if content.header.replaced else []
    return [attention, widths, *replaced] if content.has_attention else [widths, *replaced]


def _sample_function(example: Example) -> str:
    values = literals.drawn(dict(example.kwargs) if example.kwargs else example.args)
    return (
        f"def sample() -> {'dict' if example.kwargs else 'tuple'}:\n"
        '    """Make an input of random values, always the same."""\n'
        "    generator = torch.Generator().manual_seed(0)\n"
        f"    return {values}\n"
    )


def _outputs_function() -> str:
    return (
        "def outputs(tree: object) -> list[float]:\n"
        f'    """Pick at most {OUTPUT_VALUES} of the values in an output, from all over it."""\n'
        "    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]\n"
        "    values = torch.cat([tensor.double().flatten() for tensor in tensors])\n"
        f"    return values[:: max(len(values) // {OUTPUT_VALUES}, 1)][:{OUTPUT_VALUES}].tolist()\n"
    )


def _by_module(attributes: Iterable[Attribute]) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = defaultdict(dict)
    for attribute in attributes:
        values[attribute.module][attribute.name] = attribute.value
    return dict(values)
