"""Finds the handler of a method and path among templates as `google.api.http` writes them.

Supported: literals, `{field}` and `{nested.field}`. A literal wins over a variable. Paths are read as they came: what
is empty, encoded twice, or steps outside of its segment is refused, so that no two spellings reach the same handler by
accident.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from gateway.problems import MalformedPath, MethodNotAllowed, UnknownPath

T = TypeVar("T")

_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)(?:=\*)?\}")
_LITERAL = re.compile(r"[A-Za-z0-9_.~-]+")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PATH_BYTES_MAX = 2048


class Template:
    """One parsed template: its segments, each a literal or None for a variable, and the variables' field paths."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.segments: list[str | None] = []
        self.variables: list[str] = []
        if not text.startswith("/"):
            raise ValueError(f"{text}: a path template begins with /")
        for part in text[1:].split("/"):
            variable = _VARIABLE.fullmatch(part)
            if variable is not None:
                self.segments.append(None)
                self.variables.append(variable.group(1))
            elif _LITERAL.fullmatch(part):
                self.segments.append(part)
            else:
                raise ValueError(f"{text}: cannot route the segment {part!r}")


class _Node(Generic[T]):
    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.variable: _Node[T] | None = None
        self.targets: dict[str, T] = {}


class Router(Generic[T]):
    """Method and path to target, by walking the path's segments once."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, method: str, template: Template, target: T) -> None:
        node = self._root
        for segment in template.segments:
            if segment is not None:
                node = node.literals.setdefault(segment, _Node())
            else:
                node.variable = node.variable or _Node()
                node = node.variable
        if method in node.targets:
            raise ValueError(f"two routes for {method} {template.text}")
        node.targets[method] = target

    def find(self, method: str, raw_path: bytes) -> tuple[T, list[str]]:
        """The target, and the values of the template's variables in their order.

        Raises:
            MalformedPath, UnknownPath, MethodNotAllowed: nothing is there, or not for this method.
        """
        found = _walk(self._root, _segments(raw_path), 0, [])
        if found is None:
            raise UnknownPath()
        targets, values = found
        target = targets.get("GET" if method == "HEAD" else method)
        if target is None:
            allowed = [*targets, "HEAD"] if "GET" in targets else list(targets)
            raise MethodNotAllowed(sorted(allowed))
        return target, values


def _walk(node: _Node[T], segments: list[str], at: int, values: list[str]) -> tuple[Mapping[str, T], list[str]] | None:
    if at == len(segments):
        return (node.targets, values) if node.targets else None
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None and (found := _walk(literal, segments, at + 1, values)):
        return found
    if node.variable is not None:
        return _walk(node.variable, segments, at + 1, [*values, segment])
    return None


def _segments(raw_path: bytes) -> list[str]:
    if len(raw_path) > _PATH_BYTES_MAX or not raw_path.startswith(b"/") or _BAD_ESCAPE.search(raw_path):
        raise MalformedPath()
    if raw_path == b"/":
        return []
    segments = []
    for raw in raw_path[1:].split(b"/"):
        try:
            segment = unquote_to_bytes(raw).decode() if b"%" in raw else raw.decode("ascii")
        except UnicodeDecodeError:
            raise MalformedPath() from None
        if segment in ("", ".", "..") or "/" in segment or "\\" in segment or not segment.isprintable():
            raise MalformedPath()
        segments.append(segment)
    return segments
