"""How the architecture of a specification is built in plain Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tsdistill.errors import TsdistillError
from tsdistill.exporting import literals
from tsdistill.models.sources.specs import parse


@dataclass(frozen=True)
class Factory:
    """A call, and what it takes.

    Attributes:
        title: what it builds, for people.
        package: what has to be installed, or whose code it is.
        imported: the import statement.
        call: an expression that gives the module.
        own_code: whether the code is the user's.
        folder: where the user's code lies.
        note: a line for the reader of the file.
    """

    title: str
    package: str
    imported: str
    call: str
    own_code: bool = False
    folder: Path | None = None
    note: str = ""


def factory(arch: str) -> Factory:
    """The call that builds ``arch``.

    Raises:
        TsdistillError: a source of models that plain Python does not know, or code that cannot be imported by
            its name.
    """
    source, _, rest = arch.partition(":")
    if source == "timm":
        return _timm(rest, arch)
    if source == "torchvision":
        return _torchvision(rest, arch)
    return _own_code(arch)


def _timm(argument: str, arch: str) -> Factory:
    import timm

    name, options = parse(argument, arch)
    call = f"timm.create_model({literals.quoted(name)}, pretrained=False{literals.arguments(options)})"
    return Factory(f"{name} of timm {timm.__version__}", "timm", "import timm", call)


def _torchvision(argument: str, arch: str) -> Factory:
    import torchvision

    from tsdistill.models.sources.torchvision_source import arguments

    name, options = parse(argument, arch)
    keywords = literals.arguments({"weights": None, **arguments(name, options, weights=False)})
    return Factory(
        f"{name} of torchvision {torchvision.__version__}",
        "torchvision",
        "from torchvision import models",
        f"models.get_model({literals.quoted(name)}{keywords})",
    )


def _own_code(arch: str) -> Factory:
    from tsdistill import plugins
    from tsdistill.models.sources.catalog import KIND, OWN_CODE

    place, _, made_by = arch.rpartition(":")
    source = arch.partition(":")[0]
    if source in plugins.items(KIND) and source != OWN_CODE:
        raise TsdistillError(
            f"{arch}: Python source is written for models of timm, torchvision and your own code, not of "
            f"{source!r}; write .pt2 or .onnx, or tsdistill's own .safetensors"
        )
    file = Path(place) if place.endswith(".py") else None
    module = file.stem if file else place
    if not all(part.isidentifier() for part in (*module.split("."), *made_by.split("."))):
        raise TsdistillError(
            f"{arch}: {module} cannot be imported by that name; rename it so that `import {module}` is Python"
        )
    held = f"{file.name}, which must lie beside this one" if file else f"{module}, which must be importable"
    first, dot, rest = made_by.partition(".")
    return Factory(
        f"{made_by} of {module}",
        module,
        f"from {module} import {first} as factory",
        f"factory{dot}{rest}()",
        own_code=True,
        folder=(file.parent if file else Path()).resolve(),
        note=f"The architecture comes from {held}.",
    )
