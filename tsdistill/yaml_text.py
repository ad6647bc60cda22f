"""YAML without aliases."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def plain_loader() -> Any:
    """PyYAML's loader of plain data, which refuses aliases (``*name``)."""
    import yaml

    class PlainLoader(yaml.SafeLoader):
        """Nodes that stand for others are refused before they are looked up."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            """The next node."""
            if self.check_event(yaml.AliasEvent):
                raise yaml.composer.ComposerError(
                    None, None, "aliases are not read, write the value out", self.peek_event().start_mark
                )
            return super().compose_node(parent, index)

    return PlainLoader
