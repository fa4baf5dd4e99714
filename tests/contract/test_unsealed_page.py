"""What a login may write that no seal covers, and what reads sealed rows without asking: docs/unsealed.md says why."""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa

from deploy.topology import SERVICE_NAMES
from services.chassis.data import heard_persons
from services.chassis.data import tables as chassis_tables
from services.chassis.data.rights import EVERY, Rights, Table
from services.chassis.data.seals import is_covered, list_sealed_tables
from tests.support.sources import parse

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"
PAGE = (ROOT / "docs" / "unsealed.md").read_text("utf-8")
CHASSIS = {*chassis_tables.metadata.tables, *heard_persons.metadata.tables}
METADATA = {name: importlib.import_module(f"services.{name}.tables").metadata for name in SERVICE_NAMES}
RIGHTS: Mapping[str, Table] = {
    name: importlib.import_module(f"services.{name}.rights").RIGHTS for name in SERVICE_NAMES
}
# Of these the code seals the rows itself, or asks for a proof.
SEALED_BY_HAND = {
    *("outbox", "handled_requests", "handled_events", "received_webhooks"),
    *("journal_entries", "ledger_entries", "ledger_accounts", "book_checks", "refused_postings"),
}
SEALED = SEALED_BY_HAND.union(*({table.name for table in list_sealed_tables(each)} for each in METADATA.values()))
# A function that says one of these asks for the seals of what it finds, or gives it to one that does.
ASKS = {
    *(
        "check_row",
        "check_read_row",
        "check_rows",
        "keep_sealed",
        "find_sealed",
        "keep_readable",
        "take_sealed",
        "read_sealed",
        "list_sealed",
        "list_all",
        "lock_all",
    ),
    *("are_sealed", "check", "check_entry", "check_book", "prove_to", "_read"),
}
READS = {"select", "select_from", "exists", "is_mine", "build_taking", "join", "join_from"}


def read_page(title: str) -> list[tuple[str, set[str], str]]:
    """The lines of the table under a title: what, which names, why."""
    section = re.search(rf"^## {title}\n(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    lines = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", section[1], re.MULTILINE)
    return [(what, set(re.findall(r"`(.+?)`", names)), why) for what, names, why in lines]


def collect(title: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for what, names, why in read_page(title):
        assert len(why.split()) > 3, f"{what} {names}: says why"
        assert not found[what] & names, f"{what} {names}: is said once"
        found[what] |= names
    return dict(found)


def list_written(table: sa.Table, rights: Rights) -> set[str]:
    """The columns that one of the roles may write."""
    granted = [columns for grant in (rights.app, rights.worker) for columns in (grant.insert, grant.update)]
    return set().union(*({column.name for column in table.columns} if each == EVERY else each for each in granted))


def list_uncovered(table: sa.Table, rights: Rights) -> set[str]:
    written = list_written(table, rights) - {"seal"}
    return {name for name in written if "sealed" not in table.info or not is_covered(table, name)}


def test_each_column_that_a_login_may_write_is_sealed_or_the_page_says_why_not():
    uncovered = {
        name if name in CHASSIS else f"{service}.{name}": found
        for service, tables in RIGHTS.items()
        for name, rights in tables.items()
        if name in METADATA[service].tables and (found := list_uncovered(METADATA[service].tables[name], rights))
    }
    assert collect("Columns") == uncovered


def test_each_right_to_remove_rows_says_why():
    for tables in RIGHTS.values():
        for name, rights in tables.items():
            for grant in (rights.app, rights.worker):
                assert not grant.delete or len(grant.delete.split()) > 3, name


def list_modules() -> Iterator[Path]:
    """All but the tables themselves, and what answers reads alone: it shows rows, and decides nothing."""
    paths = [
        path
        for path in SERVICES.rglob("*.py")
        if "migrations" not in path.parts and path.name not in {"tables.py", "rights.py"}
    ]
    deciding = "\n".join(path.read_text("utf-8") for path in paths if not _is_query(path) and path.name != "api.py")
    for path in sorted(paths):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        package, _, name = module.rpartition(".")
        used = module in deciding or re.search(rf"from {re.escape(package)} import [^\n]*\b{name}\b", deciding)
        if not _is_query(path) or used:
            yield path


def _is_query(path: Path) -> bool:
    return "queries" in path.with_suffix("").parts


def list_names(node: ast.AST) -> set[str]:
    return {
        each.id if isinstance(each, ast.Name) else each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Name | ast.Attribute)
    }


def list_texts(node: ast.AST) -> str:
    return "\n".join(
        each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)
    )


def find_tables(tree: ast.Module) -> set[str]:
    """The names under which a module has a sealed table, its columns, or the aggregate of it."""
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (alias.name in SEALED and re.search(r"(tables|heard_persons)(\.|$)", node.module or ""))
        or (alias.name.lower() in SEALED and alias.name.isupper() and ".store." in (node.module or ""))
    }
    while True:
        more = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and _names_table(node.value, imported)
            for each in node.targets
            for target in ast.walk(each)
            if isinstance(target, ast.Name)
        }
        if more <= imported:
            return imported
        imported |= more


def _names_table(value: ast.expr, known: set[str]) -> bool:
    """`table.c`, `table.alias()`, `one.c, other.c`, `Aggregate(table, ...)`."""
    if isinstance(value, ast.Call):
        function = value.func
        is_aggregate = isinstance(function, ast.Name) and function.id == "Aggregate"
        is_alias = isinstance(function, ast.Attribute) and function.attr == "alias"
        return (is_aggregate or is_alias) and bool(list_names(value) & known)
    return isinstance(value, ast.Attribute | ast.Tuple) and bool(list_names(value) & known)


_FROM = re.compile(rf"\b(?:FROM|JOIN) (?:public\.)?(?:{'|'.join(sorted(SEALED))})\b")


def reads_unasked(node: ast.AST, tables: set[str]) -> bool:
    names = list_names(node)
    reads = (names & READS and names & tables) or _FROM.search(list_texts(node))
    return bool(reads) and not names & ASKS


def test_each_function_that_reads_sealed_rows_asks_for_their_seals_or_the_page_says_why_not():
    found: dict[str, set[str]] = defaultdict(set)
    for path in list_modules():
        tree = parse(path)
        tables = find_tables(tree)
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        statements = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
        for node in (*functions, *statements):
            if reads_unasked(node, tables):
                name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else _name_target(node)
                found[str(path.relative_to(SERVICES))].add(name)
    assert collect("Reads") == dict(found)


def _name_target(node: ast.Assign | ast.AnnAssign) -> str:
    return ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
