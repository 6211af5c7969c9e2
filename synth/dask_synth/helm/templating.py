"""Templates from examples: what a program writes for each value of its options becomes one template for all of them.

All options together make the *full* example, in which each value is a mark that occurs nowhere else: where a mark
stands, the template puts the value. Where an example without an option differs from the full one, it puts a condition.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import yaml

#: Keys and positions that lead to a node of the full example.
Path = tuple[str | int, ...]


class Value(NamedTuple):
    """A value that the template puts in.

    Attributes:
        mark: what stands for it in the full example: text, a number, a list of one text of which there may be many, or
            whatever is ``passed``.
        expression: the value, in terms of the template.
        passed: whether the value is put in as it is, a mapping or a list of them.
    """

    mark: Any
    expression: str
    passed: bool = False

    @property
    def text(self) -> str | None:
        """The text that stands for it, or for each of its members."""
        mark = self.mark[0] if self.repeated else self.mark
        return mark if isinstance(mark, str) and not self.passed else None

    @property
    def repeated(self) -> bool:
        """Whether it is a list whose members are put in one by one."""
        return isinstance(self.mark, list) and not self.passed


class Template:
    """Grows by each example that it is compared with."""

    def __init__(self, full: Sequence[Mapping[str, Any]], values: Iterable[Value]) -> None:
        self._full = full
        self._values = tuple(values)
        self._only: dict[Path, list[str]] = defaultdict(list)
        self._otherwise: dict[Path, list[tuple[list[str], str | None, Any]]] = defaultdict(list)
        self._choices: dict[Path, tuple[str, Any]] = {}

    # --- comparing ----------------------------------------------------------------------------------------------------

    def without(
        self,
        condition: str,
        example: Sequence[Mapping[str, Any]],
        nor: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        """Take over what is different in an example of which ``condition`` is not true.

        Args:
            condition: in terms of the template.
            example: its documents.
            nor: examples of which another condition is not true either, by that condition. What they lack of documents
                that only ``example`` has depends on both.

        Raises:
            ValueError: it cannot be told where the difference belongs.
        """
        others = {other: {_identity(one) for one in documents} for other, documents in (nor or {}).items()}
        before = {id(entry) for entries in self._otherwise.values() for entry in entries}
        self._items((), self._full, example, condition, [_identity(one) for one in self._full], _identity)
        for path, entries in self._otherwise.items():
            for conditions, _, document in (entry for entry in entries if id(entry) not in before and len(path) == 1):
                conditions += [other for other, present in others.items() if _identity(document) not in present]

    def _compare(self, path: Path, one: Any, other: Any, condition: str) -> None:
        if one == other or self._is_value(one, number=True):
            return
        if self._is_value(one) or not one or not other or type(one) is not type(other):
            self._replace(path, one, other, condition)
        elif isinstance(one, dict):
            self._members(path, one, other, condition)
        elif isinstance(one, list):
            self._items(path, one, other, condition, [_canonical(item) for item in one], _canonical)
        else:
            self._replace(path, one, other, condition)

    def _replace(self, path: Path, one: Any, other: Any, condition: str) -> None:
        if not isinstance(one, dict | list) and not isinstance(other, dict | list):
            if path in self._choices:
                raise ValueError(f"{path} depends on two conditions")
            self._choices[path] = (condition, other)
            return
        key = path[-1]
        if not isinstance(key, str):
            raise ValueError(f"{path} is an item that cannot be compared")
        self._only[path].append(condition)
        self._otherwise[path[:-1]].append(([_not(condition)], key, other))

    def _members(self, path: Path, one: Mapping[str, Any], other: Mapping[str, Any], condition: str) -> None:
        for key, value in one.items():
            if key in other:
                self._compare((*path, key), value, other[key], condition)
            else:
                self._only[(*path, key)].append(condition)
        added = (([_not(condition)], key, value) for key, value in other.items() if key not in one)
        self._otherwise[path].extend(added)

    def _items(
        self, path: Path, one: Sequence[Any], other: Sequence[Any], condition: str, keys: list[str], key: Any
    ) -> None:
        if path and len(one) == len(other) and not any(self._repeats(item) for item in one):
            for number, (item, counterpart) in enumerate(zip(one, other, strict=True)):
                self._compare((*path, number), item, counterpart, condition)
            return
        matcher = SequenceMatcher(None, keys, [key(item) for item in other], autojunk=False)
        for tag, start, end, other_start, other_end in matcher.get_opcodes():
            if tag == "equal":
                for number in range(start, end):
                    counterpart = other[other_start + number - start]
                    self._compare((*path, number), one[number], counterpart, condition)
                continue
            for number in range(start, end):
                self._only[(*path, number)].append(condition)
            added = [([_not(condition)], None, item) for item in other[other_start:other_end]]
            self._otherwise[(*path, start)].extend(added)

    # --- values -------------------------------------------------------------------------------------------------------

    def _is_value(self, node: Any, *, number: bool = False) -> bool:
        if number:
            return any(node == value.mark for value in self._values if isinstance(value.mark, int))
        return any(node == value.mark for value in self._values if value.passed)

    def _passed(self, node: Any) -> str | None:
        """The expression of a value that is put in as it is."""
        return next((v.expression for v in self._values if v.passed and node in (v.mark, *_first(v.mark))), None)

    def _repeats(self, node: Any) -> Value | None:
        """The list for each of whose members an item of a list is there: which holds the mark, and not in a list."""
        texts = list(_texts_outside_lists(node))
        found = (value for value in self._values if value.repeated and value.text)
        return next((value for value in found if any(str(value.text) in text for text in texts)), None)

    def _scalar(self, node: Any) -> str:
        for value in self._values:
            if isinstance(value.mark, int) and not isinstance(node, bool) and node == value.mark:
                return f"{{{{ int {value.expression} }}}}"
            if value.text is not None and isinstance(node, str) and value.text in node:
                return self._text(node, value)
        written = yaml.safe_dump(node, width=10**6, default_flow_style=True)
        return written.removesuffix("\n").removesuffix("\n...")

    def _text(self, node: str, value: Value) -> str:
        text = str(value.text)
        expression = "." if value.repeated else value.expression
        if node == text:
            return f"{{{{ {expression} | quote }}}}"
        rest = node.replace(text, "")
        if node.count(text) == 1 and rest.isprintable() and not set(rest) & set('%"\\') and "'" not in rest:
            return f'{{{{ printf "{node.replace(text, "%s")}" {_operand(expression)} | quote }}}}'
        return json.dumps(node).replace(text, f"{{{{ {expression} }}}}")

    # --- writing ------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The template.

        Raises:
            ValueError: some text would be taken for a part of the template.
        """
        if "{{" in json.dumps(self._full):
            raise ValueError("{{ is the beginning of an expression")
        return "".join(f"{line}\n" for line in _joined(self._sequence(self._full, (), "---")))

    def _sequence(self, node: Sequence[Any], path: Path, indent: str) -> Iterator[str]:
        """Items of a list, or the documents, between which there is a line."""
        document = indent == "---"
        margin = "" if document else indent
        for number in range(len(node) + 1):
            at = (*path, number)
            for conditions, key, item in self._otherwise.get(at, ()):
                if key is None:
                    yield from _if(conditions, self._item(item, ("otherwise",), indent), margin)
            if number == len(node):
                return
            repeated = self._repeats(node[number])
            lines = self._item(node[number], at, indent)
            conditions = [*dict.fromkeys(self._only.get(at, ()))]
            if repeated:
                lines = _wrapped(f"range {repeated.expression}", lines, margin)
                conditions = [one for one in conditions if one != repeated.expression]
            yield from _if(conditions, lines, margin)

    def _item(self, node: Any, path: Path, indent: str) -> Iterator[str]:
        if indent == "---":
            yield indent
            yield from self._mapping(node, path, "")
        elif expression := self._passed(node):
            yield _to_yaml(expression, indent)
        elif isinstance(node, dict):
            lines = list(self._mapping(node, path, f"{indent}  "))
            if lines[0].strip().startswith("{{"):
                yield f"{indent}-"
            else:
                lines[0] = f"{indent}- {lines[0].strip()}"
            yield from lines
        else:
            yield f"{indent}- {self._choice(node, path)}"

    def _mapping(self, node: Mapping[str, Any], path: Path, indent: str) -> Iterator[str]:
        for key, value in node.items():
            conditions = [*dict.fromkeys(self._only.get((*path, key), ()))]
            yield from _if(conditions, self._entry(key, value, (*path, key), indent), indent)
        for conditions, added, value in self._otherwise.get(path, ()):
            if added is not None:
                yield from _if(conditions, self._entry(added, value, ("otherwise",), indent), indent)

    def _entry(self, key: str, value: Any, path: Path, indent: str) -> Iterator[str]:
        name = self._scalar(key)
        if expression := self._passed(value):
            yield f"{indent}{name}:"
            yield _to_yaml(expression, f"{indent}  ")
        elif value and isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from self._mapping(value, path, f"{indent}  ")
        elif value and isinstance(value, list):
            yield f"{indent}{name}:"
            yield from self._sequence(value, path, f"{indent}  ")
        else:
            yield f"{indent}{name}: {self._choice(value, path)}"

    def _choice(self, node: Any, path: Path) -> str:
        if path not in self._choices:
            return self._scalar(node)
        condition, other = self._choices[path]
        return f"{{{{ if {condition} }}}}{self._scalar(node)}{{{{ else }}}}{self._scalar(other)}{{{{ end }}}}"


# --- parts ------------------------------------------------------------------------------------------------------------


def _identity(manifest: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    return f"{manifest['kind']} {metadata.get('namespace')} {metadata['name']}"


def _canonical(node: Any) -> str:
    return json.dumps(node, sort_keys=True)


def _first(mark: Any) -> list[Any]:
    return mark[:1] if isinstance(mark, list) else []


def _texts_outside_lists(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _texts_outside_lists(value)


def _operand(expression: str) -> str:
    return f"({expression})" if " " in expression else expression


def _not(condition: str) -> str:
    return f"not {_operand(condition)}"


def _if(conditions: Sequence[str], lines: Iterable[str], indent: str) -> Iterator[str]:
    if not conditions:
        return iter(lines)
    every = conditions[0] if len(conditions) == 1 else f"and {' '.join(map(_operand, conditions))}"
    return _wrapped(f"if {every}", lines, indent)


def _wrapped(opening: str, lines: Iterable[str], indent: str) -> Iterator[str]:
    yield f"{indent}{{{{- {opening} }}}}"
    yield from lines
    yield f"{indent}{{{{- end }}}}"


def _joined(lines: Iterable[str]) -> list[str]:
    """The same with one block where there are two in a row that begin in the same way."""
    joined: list[str] = []
    openings: list[str] = []  # of the blocks that a line is in
    closed = ""  # opening of the block that the last line ends
    for line in lines:
        begins, ends = line.lstrip().startswith(("{{- if", "{{- range")), line.lstrip() == "{{- end }}"
        if begins:
            openings.append(line)
        if begins and line == closed:
            joined.pop()
        else:
            joined.append(line)
        closed = openings.pop() if ends else ""
    return joined


def _to_yaml(expression: str, indent: str) -> str:
    return f"{indent}{{{{- toYaml {expression} | nindent {len(indent)} }}}}"
