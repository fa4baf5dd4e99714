"""Words that one person alone chooses stand in quotation marks wherever a text of ours has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.values.text import quote
from tests.support.sources import parse
from tests.support.words import find_words, is_bare, say

ROOT = Path(__file__).parents[2]
# Words of banks, and of whoever writes where banks do: no request has them.
OF_BANKS = frozenset({"file_name", "rejected_because"})
# Where one of these names stands bare, and why nobody is misled by it.
BARE = {
    ("services/compliance/commands/parties.py", "person_id"): "the name of a stop",
    ("services/compliance/domain/parties.py", "person_id"): "an etag",
    ("services/compliance/queries/statements.py", "person_id"): "who has signed in, and said so",
    ("services/transactions/domain/ach.py", "rejected_because"): "a reason, which is quoted as a whole",
    ("services/transactions/providers/ach_file/nacha.py", "description"): "a column of a file",
}


def test_no_text_of_a_service_has_words_of_somebody_else_outside_quotation_marks() -> None:
    """The cure: `quote(...)` of values/text.py, or a field of its own."""
    names = find_words() | OF_BANKS
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in (ROOT / "services").rglob("*.py")
        if "migrations" not in path.parts
        for name in list_bare(parse(path), names)
    }
    assert found == BARE.keys()


@pytest.mark.parametrize(
    ("source", "bare"),
    [
        ('f"Close {offering.display_name}"', ["display_name"]),
        ('f"Close {quote(offering.display_name)}"', []),
        ('f"Back: {note or quote(title)}"', ["note"]),
        ('f"Back: {note!r}"', ["note"]),
        ('"Close " + offering.display_name', ["display_name"]),
        ('"Close {}".format(display_name)', ["display_name"]),
        ('f"{claims.text(name)} {text}"', []),  # a function, and what any text is called
        ('f"They say {comment.text}"', ["text"]),
    ],
)
def test_the_search_for_bare_words_finds_them(source: str, bare: list[str]) -> None:
    assert list(list_bare(ast.parse(source), find_words())) == bare


def test_words_in_quotation_marks_end_them_by_nothing_that_the_contracts_take() -> None:
    for name in find_words():
        assert is_bare(said := say(name))
        assert not is_bare(f"{quote(said)} it is, and {quote(said)}.")


def list_bare(tree: ast.AST, names: frozenset[str]) -> Iterator[str]:
    """Those of these names that stand in a text that is put together, and not in quotation marks there."""
    for node in ast.walk(tree):
        for part in _list_parts(node):
            yield from (name for name in _list_names(part) if name in names)


def _list_parts(node: ast.AST) -> list[ast.expr]:
    """What of it is put into a text."""
    if isinstance(node, ast.FormattedValue):
        return [node.value]
    if isinstance(node, ast.BinOp) and any(_is_text(side) for side in (node.left, node.right)):
        return [side for side in (node.left, node.right) if not _is_text(side)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join"):
        return [*node.args, *(each.value for each in node.keywords)]
    return []


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _list_names(shown: ast.AST) -> Iterator[str]:
    match shown:
        case ast.Call(func=ast.Name(id="quote")):
            return
        case ast.Call(func=called, args=args, keywords=more):
            for each in (called.value if isinstance(called, ast.Attribute) else called, *args, *more):
                yield from _list_names(each)
            return
        case ast.Attribute(attr=name):
            yield name
        case ast.Name(id=name) if name != "text":
            yield name
    for each in ast.iter_child_nodes(shown):
        if not isinstance(each, ast.FormattedValue):  # a text in a text is found by itself
            yield from _list_names(each)
