"""Read YAML as text, lists and tables; the only door to pyyaml, which is opened only here and late.

Only YAML's structure is composed; nothing is constructed, so no tag can do anything.
No value is converted: `no`, `1.0` and `2026-01-01` stay the characters that were written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from aqpolicy.diagnostics import Source
from aqpolicy.errors import InputError

MERGE: Final = "<<"
"""The key whose table's members are taken over: YAML's own way not to say a thing twice."""

Places = dict[int, tuple[int, int]]
"""Line and offset of each table, by its identity."""


def read_yaml(source: Source) -> tuple[object, Places]:
    """Return what a YAML text holds, with the place of each table in it.

    Raises:
        InputError: It is not YAML, or pyyaml is not installed.
    """
    try:
        import yaml  # type: ignore[import-untyped]  # it ships no types
    except ModuleNotFoundError as error:
        raise InputError(
            f"`{source.name}` is YAML, and pyyaml is not installed; run `pip install 'aqpolicy[yaml]'`, "
            "or write the fixtures as JSON lines"
        ) from error
    plain = _Plain(source)
    try:
        root = yaml.compose(source.text, Loader=yaml.BaseLoader)
        return None if root is None else plain.value(root), plain.places
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "a character that YAML does not have"
        raise InputError(f"{source.name}{line}: not YAML: {problem}") from error
    except RecursionError as error:
        raise InputError(f"{source.name}: not a file of fixtures: it is nested too deep") from error


@dataclass(slots=True)
class _Plain:
    """Turns YAML's nodes into plain data, each node once."""

    source: Source
    places: Places = field(default_factory=dict)
    done: dict[int, object] = field(default_factory=dict)

    def value(self, node: Any) -> object:
        """Return what a node holds."""
        if id(node) not in self.done:
            convert = {"scalar": self._scalar, "sequence": self._list, "mapping": self._table}[node.id]
            self.done[id(node)] = convert(node)
        return self.done[id(node)]

    def _scalar(self, node: Any) -> object:
        return node.value

    def _list(self, node: Any) -> object:
        return [self.value(item) for item in node.value]

    def _table(self, node: Any) -> object:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key_node, value_node in node.value:
            key, value = self.value(key_node), self.value(value_node)
            if not isinstance(key, str):
                self._refuse(key_node, "a key is no plain word")
            elif key == MERGE and isinstance(value, dict):
                merged |= value
            elif key in own:
                self._refuse(key_node, f"`{key}` is given twice")
            else:
                own[key] = value
        table = merged | own
        self.places[id(table)] = (node.start_mark.line + 1, node.start_mark.index)
        return table

    def _refuse(self, node: Any, problem: str) -> None:
        raise InputError(f"{self.source.name}:{node.start_mark.line + 1}: {problem}")
