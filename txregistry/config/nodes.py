"""Configuration as it was written: values that know where they come from.

YAML is composed, never constructed: no tag makes an object, and documents are bounded.
May import PyYAML and attrs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from attrs import evolve, field, frozen

MAXIMUM_NODES = 50_000
_PREFIX = "tag:yaml.org,2002:"
_SCALARS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "merge"})


@frozen
class Mistake:
    """Something in the configuration that cannot be meant."""

    origin: str
    key: str
    text: str

    def __str__(self) -> str:
        return (
            f"{self.origin}: {self.key}: {self.text}" if self.key else f"{self.origin}: {self.text}"
        )


@frozen
class Node:
    """A value as written: a scalar, a sequence of nodes, or a mapping of nodes."""

    value: Any
    origin: str


@frozen
class Reading:
    """Reads YAML texts and gathers what is wrong with them."""

    mistakes: list[Mistake] = field(factory=list)

    def text(self, text: str, origin: str, lines: bool = True) -> Node | None:
        """Read a document.

        :param origin: names the source; line numbers are added to it where ``lines`` is true.
        :return: None for an empty document, or one with a mistake.
        """
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{origin}:{mark.line + 1}" if mark is not None and lines else origin
            self.mistakes.append(Mistake(where, "", f"no valid YAML: {error.problem}"))
            return None
        except (yaml.YAMLError, RecursionError) as error:
            self.mistakes.append(Mistake(origin, "", f"no valid YAML: {error}"))
            return None
        if node is None:
            return None
        budget = [MAXIMUM_NODES]
        try:
            return self._node(node, origin, lines, budget, "")
        except (OverflowError, RecursionError):
            self.mistakes.append(Mistake(origin, "", "the document is too large or too deep"))
            return None

    def _node(self, node: yaml.Node, origin: str, lines: bool, budget: list[int], key: str) -> Node:
        budget[0] -= 1
        if budget[0] < 0:
            raise OverflowError
        where = f"{origin}:{node.start_mark.line + 1}" if lines else origin
        if isinstance(node, yaml.MappingNode):
            return Node(self._mapping(node, origin, lines, budget, key), where)
        if isinstance(node, yaml.SequenceNode):
            items = [
                self._node(item, origin, lines, budget, f"{key}[{index}]")
                for index, item in enumerate(node.value)
            ]
            return Node(items, where)
        assert isinstance(node, yaml.ScalarNode)
        return Node(self._scalar(node, where, key), where)

    def _mapping(
        self, node: yaml.MappingNode, origin: str, lines: bool, budget: list[int], key: str
    ) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for name_node, value_node in node.value:
            where = f"{origin}:{name_node.start_mark.line + 1}" if lines else origin
            if not isinstance(name_node, yaml.ScalarNode):
                self.mistakes.append(Mistake(where, key, "a key has to be a text"))
                continue
            name = name_node.value
            dotted = f"{key}.{name}" if key else name
            if name in found:
                self.mistakes.append(Mistake(where, dotted, "is given twice"))
            found[name] = self._node(value_node, origin, lines, budget, dotted)
        return found

    def _scalar(self, node: yaml.ScalarNode, where: str, key: str) -> Any:
        kind = node.tag.removeprefix(_PREFIX)
        if kind not in _SCALARS:
            self.mistakes.append(Mistake(where, key, f"the tag {node.tag} is not allowed"))
            return None
        constructor = yaml.constructor.SafeConstructor()
        if kind in ("int", "float", "bool", "null"):
            try:
                return getattr(constructor, f"construct_yaml_{kind}")(node)
            except ValueError as error:
                self.mistakes.append(Mistake(where, key, str(error)))
                return None
        return node.value


def plain(node: Node) -> Any:
    """A node's value without its origins."""
    if isinstance(node.value, Mapping):
        return {name: plain(item) for name, item in node.value.items()}
    if isinstance(node.value, Sequence) and not isinstance(node.value, str):
        return [plain(item) for item in node.value]
    return node.value


def replaced(root: Node, keys: Sequence[str | int], node: Node) -> Node:
    """A tree with one value in another's place.

    :param keys: names, and numbers of entries of lists; the one behind the last entry adds one.
    :raises IndexError: with a sentence, if entries before that are missing.
    """
    if not keys:
        return node
    key, *rest = keys
    if isinstance(key, int):
        entries = list(root.value) if isinstance(root.value, list) else []
        if key > len(entries):
            raise IndexError(f"there is no number {key}: the next one would be {len(entries)}")
        if key == len(entries):
            entries.append(Node({}, node.origin))
        entries[key] = replaced(entries[key], rest, node)
        return evolve(root, value=entries)
    content = dict(root.value) if isinstance(root.value, dict) else {}
    content[key] = replaced(content.get(key) or Node({}, node.origin), rest, node)
    return evolve(root, value=content)
