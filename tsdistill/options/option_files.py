"""Files of options: names and values, in TOML, YAML or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError

_KINDS = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}
_WAY_OUT = "mend the file"


def read_options(path: str | Path) -> dict[str, Any]:
    """The options in a TOML, YAML or JSON file, by name; the options.json of a run is one.

    Raises:
        TsdistillError: the file is missing, not of these kinds, or no mapping.
    """
    from tsdistill.schema import LARGEST_OPTIONS, parse
    from tsdistill.untrusted import read_text

    path = Path(path).expanduser()
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise TsdistillError(f"{path}: options are read from .toml, .yaml or .json; name such a file")
    contents = parse(read_text(path, LARGEST_OPTIONS, _WAY_OUT), kind, path, _WAY_OUT)
    if isinstance(contents, Mapping) and isinstance(contents.get("options"), Mapping):
        contents = contents["options"]
    if not isinstance(contents, Mapping):
        raise TsdistillError(f"{path} holds no options; write name = value lines")
    return {str(key): value for key, value in contents.items()}
