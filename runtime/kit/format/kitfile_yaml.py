"""A Kitfile in YAML: scalars are text, as for Kit (`version: 1.0` is "1.0"), but JSON values under `parameters`.

Only YAML's node graph is used, no constructor, so no tag can make an object. Anchors and merge keys work; the number of
values after their expansion is limited. https://yaml.org/spec/1.1/, merge keys: https://yaml.org/type/merge.html
"""

import re
from collections.abc import Iterator

import yaml

from runtime.errors import InvalidKitfile
from runtime.kit.format.json_text import finite

_MAX_NODES = 100_000
_MAX_DEPTH = 64
_INTEGER = re.compile(r"[-+]?(?:0x[0-9A-Fa-f]+|0o?[0-7]+|0b[01]+|0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS.update({"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False})


def read_yaml(text: str) -> dict[str, object]:
    """Returns the Kitfile, whose size was checked, as a map of JSON values. Raises InvalidKitfile."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = _Reader().value(node, typed=False) if node else {}
    except (yaml.YAMLError, RecursionError, ValueError) as problem:
        reason = "nested too deeply" if isinstance(problem, RecursionError) else " ".join(str(problem).split())
        raise InvalidKitfile(f"the Kitfile is not YAML: {reason}") from problem
    if not isinstance(value, dict):
        raise InvalidKitfile("the Kitfile is not a YAML map")
    return value


class _Reader:
    """Turns nodes into values, and counts them: an anchor is counted each time it is used."""

    def __init__(self) -> None:
        self._nodes = 0

    def value(self, node: yaml.Node, *, typed: bool, depth: int = 0) -> object:
        self._nodes += 1
        if self._nodes > _MAX_NODES or depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_NODES} values, or more than {_MAX_DEPTH} levels")
        if isinstance(node, yaml.MappingNode):
            return self._map(node, typed, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, typed=typed, depth=depth + 1) for item in node.value]
        return _scalar(node, typed)

    def _map(self, node: yaml.MappingNode, typed: bool, depth: int) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError("a key is not text")  # noqa: TRY004 - about the document, not about a Python type
            name = str(key.value)
            if name == "<<" and key.style is None:
                for source in self._sources(item, typed, depth):
                    merged = {**source, **merged}
            elif name in own:
                raise ValueError(f"the key {name!r} occurs twice in one map")
            else:
                own[name] = self.value(item, typed=typed or name == "parameters", depth=depth + 1)
        return {**merged, **own}

    def _sources(self, item: yaml.Node, typed: bool, depth: int) -> Iterator[dict[str, object]]:
        """Yields the maps that `<<: *anchor` or `<<: [*a, *b]` merges in, the most important first."""
        for node in item.value if isinstance(item, yaml.SequenceNode) else [item]:
            value = self.value(node, typed=typed, depth=depth + 1)
            if not isinstance(value, dict):
                raise ValueError("'<<' merges something that is not a map")  # noqa: TRY004 - as above
            yield value


def _scalar(node: yaml.Node, typed: bool) -> object:
    text = str(node.value)
    text.encode()  # fails for a lone surrogate, which could not be printed
    plain = isinstance(node, yaml.ScalarNode) and node.style is None
    if not plain or (not typed and text not in ("", "~", "null", "Null", "NULL")):
        return text
    return _WORDS[text] if text in _WORDS else _number(text)


def _number(text: str) -> object:
    """Returns the number that a plain scalar is, or its text: dates and the like are text in JSON."""
    if _INTEGER.fullmatch(text):
        digits = text.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        number = int(text.replace("0", "0o", 1) if octal else text, 0)
        str(number)  # fails for more digits than Python writes, which could not become JSON again
        return number
    if _NUMBER.fullmatch(text):
        return finite(text)
    return text
