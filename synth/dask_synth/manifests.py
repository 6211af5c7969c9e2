"""Manifests as people hand them in: files, folders, standard input; lists, several documents, mistakes.

Whatever is wrong with them becomes a line of text that names the file, the line and the object, all of it at once.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import reprlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml

from dask_constructs import problems
from dask_crds import names
from dask_crds.model import KINDS

STANDARD_INPUT = "<stdin>"
#: No manifest comes near these: an API server takes 3 MiB and, in our kinds, no more than some ten levels.
MOST_BYTES = 64 * 1024 * 1024
MOST_NODES = 2_000_000
MOST_LEVELS = 200
#: Files of these names are read in a folder.
ENDINGS = (".yaml", ".yml", ".json")
#: What JSON has as well; the others are what only YAML knows.
_JSON = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}


class Manifest(NamedTuple):
    """A manifest of one of our kinds and where it stands."""

    file: str
    value: dict[str, Any]
    node: yaml.Node

    @property
    def label(self) -> str:
        """Kind, namespace and name, as far as they are stated."""
        metadata = self.value.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        name = metadata.get("name") or f"{metadata.get('generateName') or ''}..."
        return f"{self.value['kind']} {'/'.join(str(part) for part in (metadata.get('namespace'), name) if part)}"

    def line(self, path: str = "") -> int:
        """Line of a field, or of the last one on the way to it that is there."""
        node, line = self.node, self.node.start_mark.line
        for key in re.findall(r"[^.\[\]]+", path):
            found = _member(node, key)
            if found is None:
                break
            node, line = found
        return int(line) + 1

    def problems(self) -> list[str]:
        """What is wrong with it."""
        # A field's own path comes first, and no path has a colon followed by a space.
        return [f"{self.file}:{self.line(told.split(': ')[0])}: {self.label}: {told}" for told in problems(self.value)]


class Found(NamedTuple):
    """Our manifests in some text, and a line for each mistake."""

    manifests: list[Manifest]
    mistakes: list[str]


def read(paths: Iterable[str]) -> Found:
    """Our manifests in files and folders; ``-`` is standard input."""
    found = Found([], [])
    for path in paths:
        for file in _files(path):
            try:
                data = _bytes(file)
            except OSError as error:
                found.mistakes.append(f"{file}: {error.strerror or error}")
                continue
            here = parse(STANDARD_INPUT if file == "-" else file, data)
            found.manifests.extend(here.manifests)
            found.mistakes.extend(here.mistakes)
    return found


def parse(file: str, data: bytes) -> Found:
    """Our manifests in the contents of a file; what is wrong in them as far as one has to know to read them."""
    found = Found([], [])
    if len(data) > MOST_BYTES:
        found.mistakes.append(f"{file}: more than {MOST_BYTES >> 20} MiB are no manifests")
        return found
    loader = _Loader(data)
    try:
        while loader.check_node():
            node = loader.get_node()
            if mistake := _unreadable(node):
                found.mistakes.append(f"{file}:{node.start_mark.line + 1}: {mistake}")
            else:
                _add(found, file, loader.construct_document(node), node)
    except (yaml.YAMLError, ValueError, LookupError) as error:  # of a number or a word that is none: !!bool maybe
        found.mistakes.append(f"{file}{_told(error)}")
    except RecursionError:
        found.mistakes.append(f"{file}: nested more than {MOST_LEVELS} levels deep")
    finally:
        loader.dispose()
    return found


def _files(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(folder, name) for name in sorted(files) if is_read(PurePath(name)))


def is_read(path: PurePath) -> bool:
    """Whether a file is one of those that are read in a folder, by its path within it."""
    return path.name.endswith(ENDINGS) and not any(part.startswith(".") for part in path.parts)


def _bytes(file: str) -> bytes:
    if file != "-":
        with Path(file).open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    if sys.stdin is None:  # closed
        return b""
    buffer = getattr(sys.stdin, "buffer", None)
    return buffer.read(MOST_BYTES + 1) if buffer is not None else sys.stdin.read(MOST_BYTES + 1).encode()


# --- YAML -------------------------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as Kubernetes and its tools read it, by sigs.k8s.io/yaml: what looks like a time is text, ``y`` is true."""

    bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: tuple[bool, bool]) -> str:
        """The tag of a node that states none."""
        if kind is yaml.ScalarNode and implicit[0]:
            return f"tag:yaml.org,2002:{_type(value or '')}"
        return str(super().resolve(kind, value, implicit))


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    digits = str(loader.construct_scalar(node)).replace("_", "")
    return int(re.sub(r"^([-+]?)0(?=[0-7])", r"\g<1>0o", digits), 0)


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    number = float(loader.construct_yaml_float(node))
    return int(number) if number.is_integer() and abs(number) < 2**63 else number  # as it becomes JSON


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor("tag:yaml.org,2002:merge", yaml.SafeLoader.construct_yaml_str)  # where it is no key


#: Words that are not text, by what they are.
_WORDS = {
    word: type_
    for type_, words in {
        "null": " ~ null Null NULL",
        "bool": "y Y yes Yes YES n N no No NO true True TRUE false False FALSE on On ON off Off OFF",
        "float": ".nan .NaN .NAN .inf .Inf .INF +.inf +.Inf +.INF -.inf -.Inf -.INF",
        "merge": "<<",
    }.items()
    for word in words.split(" ")
}
_WHOLE = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def _type(word: str) -> str:
    """What a word without quotes is: https://github.com/yaml/go-yaml/blob/v2/resolve.go."""
    if word in _WORDS:
        return _WORDS[word]
    number = word.replace("_", "") if word[0] in "+-.0123456789" and not word.startswith("._") else ""
    if _WHOLE.fullmatch(number):
        return "int"
    return "float" if _FLOAT.fullmatch(number) and math.isfinite(float(number)) else "str"


def _told(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f":{error.problem_mark.line + 1}: not YAML: {error.problem or error.context}"
    return f": not YAML: {' '.join(str(error).split())}"


def _unreadable(node: yaml.Node) -> str | None:
    """Why a document cannot be a manifest, whatever it says; aliases are followed, as whoever reads it would."""
    sizes: dict[int, int] = {}
    above: set[int] = set()

    def size(node: yaml.Node, level: int) -> int:
        if id(node) in above:
            raise ValueError("contains itself (an alias within what it stands for)")
        if level > MOST_LEVELS:
            raise ValueError(f"is nested more than {MOST_LEVELS} levels deep")
        if node.tag not in _JSON:
            raise ValueError(f"line {node.start_mark.line + 1} has {node.tag!r}, which is not possible in a manifest")
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) not in sizes:
            above.add(id(node))
            sizes[id(node)] = 1 + sum(size(member, level + 1) for member in _members(node))
            above.remove(id(node))
        return sizes[id(node)]

    try:
        return "has too many members, aliases counted" if size(node, 0) > MOST_NODES else None
    except ValueError as error:
        return str(error)


def _members(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
        return
    keys = set()
    for key, value in node.value:
        text = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            raise ValueError(f"line {key.start_mark.line + 1}: a key must be text: put {text or 'it'} in quotes")
        if text in keys and text != "<<":
            raise ValueError(f"line {key.start_mark.line + 1}: {text} is there twice")
        keys.add(text)
        yield value


def _member(node: yaml.Node, key: str) -> tuple[yaml.Node, int] | None:
    """A member of a mapping or sequence, and the line where it begins."""
    if isinstance(node, yaml.SequenceNode) and key.isdecimal() and int(key) < len(node.value):
        return node.value[int(key)], node.value[int(key)].start_mark.line
    if isinstance(node, yaml.MappingNode):
        return next(((value, name.start_mark.line) for name, value in node.value if name.value == key), None)
    return None


# --- whose ------------------------------------------------------------------------------------------------------------


def _add(found: Found, file: str, value: Any, node: yaml.Node) -> None:
    """Our manifests in a document; one of a list is a manifest, too, and what is nobody's mistake is left alone."""
    if value is None:
        return
    where = f"{file}:{node.start_mark.line + 1}"
    if not isinstance(value, dict):
        found.mistakes.append(f"{where}: not a manifest: {reprlib.repr(value)}")
    elif str(value.get("kind")).endswith("List") and "items" in value:
        if not isinstance(value["items"], list | None):
            found.mistakes.append(f"{where}: {value['kind']}: items: not a list: {reprlib.repr(value['items'])}")
            return
        items = _member(node, "items")
        for number, item in enumerate(value["items"] or ()):
            member = _member(items[0], str(number)) if items else None
            _add(found, file, item, member[0] if member else node)
    elif mistake := _nearly_ours(value):
        found.mistakes.append(f"{where}: {mistake}")
    elif str(value.get("kind")) in KINDS:
        found.manifests.append(Manifest(file, value, node))


def _nearly_ours(value: dict[str, Any]) -> str | None:
    """What is wrong with kind and apiVersion, if one of our kinds seems to be meant."""
    kind, version = str(value.get("kind")), value.get("apiVersion")
    if kind in KINDS and version == names.API_VERSION:
        return None
    if kind in KINDS:
        return f"{kind}: apiVersion: {version!r} is not possible, did you mean {names.API_VERSION!r}?"
    known = {name.lower(): name for name in KINDS}
    similar = difflib.get_close_matches(kind.lower(), known, n=1, cutoff=0.85)
    if similar:
        return f"kind: {kind!r} is none, did you mean {known[similar[0]]!r} (apiVersion {names.API_VERSION})?"
    if str(version).partition("/")[0] == names.GROUP:
        return f"kind: {kind!r} is none of {names.API_VERSION}: {', '.join(KINDS)}"
    return None
