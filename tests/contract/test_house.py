"""The rooms of the house look alike: one file plan for every service, functions of a screen, files of one idea."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.topology import SERVICE_NAMES
from tests.support.sources import parse

ROOT = Path(__file__).parents[2]
TEST_FILES = sorted((ROOT / "tests").glob("*/test_*.py"))

# What every service has, and what only some need. A name ending with / is a package.
REQUIRED = {"README.md", "__init__.py", "__main__.py", "api.py", "domain/", "messages.py", "migrations/"}
REQUIRED |= {"actions.py", "approvals.py", "dependencies.py", "rights.py", "subscribers.py"}
ONE_OF = (
    {"queries.py", "queries/"},
    {"commands.py", "commands/"},
    {"jobs.py", "jobs/"},
    {"store.py", "store/"},
    {"tables.py", "tables/"},
)
OPTIONAL = {"clients.py", "settings.py"}
# What one service has beside the plan, each with its reason.
OWN = {
    "transactions": {
        "providers/",  # the outer world, a package a provider
        "rotation.py",  # a command of the operator's: which wrapping keys are needed still
        "vault.py",  # account numbers are sealed before they are stored
        "wrapping.py",  # a key that the database never sees wraps the keys that do that
    },
    "compliance": {
        "inbox.py",  # what waits for a second person anywhere, as one list
        "key_tokens.py",  # compliance is the issuer of tokens for API keys
    },
    "escrow": {
        "posting/",  # the one way into the book: group commit, and a batch with its verdicts, answers and events
    },
}
LINES_OF_A_FUNCTION_MAX = 70
LINES_OF_A_FILE_MAX = 400


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_a_service_follows_the_plan(service: str) -> None:
    folder = ROOT / "services" / service
    there = {
        path.name + "/" * path.is_dir()
        for path in folder.iterdir()
        if path.name != "__pycache__" and (path.is_file() or any(path.glob("**/*.py")))
    }
    assert REQUIRED - there == set(), "every service has these"
    for names in ONE_OF:
        assert len(names & there) == 1, f"a file, or a package once it has grown: {sorted(names)}"
    own = there - REQUIRED - OPTIONAL - set().union(*ONE_OF)
    assert own == OWN.get(service, set()), "what is its own says why, here"


# What `__main__` hands to the servicers, beside the service's Dependencies.
HANDED = ["dependencies", "approvals", "parties"]


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_the_edges_of_every_service_are_built_alike(service: str) -> None:
    """Whoever knows how one service is put together knows all of them."""
    package = f"services.{service}"
    dependencies = importlib.import_module(f"{package}.dependencies").Dependencies
    jobs = importlib.import_module(f"{package}.jobs").build_jobs
    approvals = importlib.import_module(f"{package}.approvals").build_approvals
    for build in (jobs, approvals):
        assert [*inspect.signature(build).parameters] == ["dependencies"], build
        assert typing.get_type_hints(build)["dependencies"] is dependencies, build
    api = importlib.import_module(f"{package}.api")
    servicers = [each for name, each in inspect.getmembers(api, inspect.isclass) if name.endswith("Servicer")]
    assert servicers
    for servicer in servicers:
        taken = [*inspect.signature(servicer).parameters]
        assert taken == [name for name in HANDED if name in taken], servicer
        assert typing.get_type_hints(servicer.__init__)["dependencies"] is dependencies, servicer


def finders() -> Iterator[tuple[str, ast.AsyncFunctionDef]]:
    """What looks for one row, in all services: (where, the function)."""
    for service in SERVICE_NAMES:
        for path in sorted((ROOT / "services" / service).rglob("*.py")):
            for node in ast.walk(parse(path)):
                if isinstance(node, ast.AsyncFunctionDef) and node.name.lstrip("_").startswith(("find_", "require_")):
                    yield f"{path.relative_to(ROOT)}: {node.name}", node


def test_what_is_found_may_be_none_and_what_is_required_is_there() -> None:
    wrong = []
    for where, function in finders():
        answer = ast.unparse(function.returns) if function.returns else ""
        if (" | None" in answer) is not ("find_" in function.name):
            wrong.append(f"{where} -> {answer}")
    assert wrong == []


def test_a_resource_is_told_from_its_row_and_never_from_the_clock() -> None:
    """What no event tells is not in an answer either: an end by time is a time, and a status once it is written."""
    wrong = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted(ROOT.glob("services/**/messages.py"))
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef) and any(argument.arg == "now" for argument in node.args.args)
    ]
    assert wrong == []


# The contracts that every service speaks, beside its own.
SHARED = {"type", "approvals"}


def stored() -> Iterator[tuple[str, ast.AsyncFunctionDef]]:
    """What other modules call of the stores, in all services: (where, the function)."""
    for service in SERVICE_NAMES:
        folder = ROOT / "services" / service
        for path in sorted((*folder.glob("store.py"), *folder.glob("store/*.py"))):
            for node in parse(path).body:
                if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_"):
                    yield f"{path.relative_to(ROOT)}: {node.name}", node


def test_a_store_function_takes_the_connection_first_and_never_an_organization() -> None:
    """It is the caller's, which the connection is bound to: an argument could be another."""
    broken = [
        where
        for where, function in stored()
        if function.args.args[0].arg not in ("tx", "source", "connection", "database")
        or "org_id" in {each.arg for each in (*function.args.args, *function.args.kwonlyargs)}
    ]
    assert broken == []


def test_no_transaction_is_ended_but_by_who_began_it() -> None:
    """What is asked for in a transaction is undone by an exception, or by `begin_rehearsal`."""
    owners = {"services/chassis/data/database.py", "services/chassis/data/migrate.py"}
    ended = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "services").rglob("*.py"))
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and node.attr in ("rollback", "commit")
        if str(path.relative_to(ROOT)) not in owners
    ]
    assert ended == []


def test_the_chassis_speaks_the_contracts_of_no_one_service() -> None:
    """import-linter takes all packages of `realco` for one."""
    foreign = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "services" / "chassis").rglob("*.py"))
        for name in imports_of(path)
        if name.startswith("realco.") and name.split(".")[1] not in SHARED
    ]
    assert foreign == []


def test_the_chassis_names_no_service() -> None:
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"
        for path in sorted((ROOT / "services" / "chassis").rglob("*.py"))
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Constant) and node.value in SERVICE_NAMES
    ]
    assert named == []


# A file that is called by one of these words stands where the word is at home: CONTRIBUTING.md, "Names of the house".
HOMES = {
    "holds": "escrow",
    "inbox": "compliance",
    "notary": "chassis",
    "positions": "chassis",
    "stages": "escrow",
    "statements": "compliance",
}


def test_a_word_of_the_house_is_the_name_of_nothing_else() -> None:
    rooms = ROOT / "services"
    found = {(word, path.relative_to(rooms).parts[0]) for word in HOMES for path in rooms.rglob(f"{word}.py")}
    assert found == set(HOMES.items())
    reserving = [where for where, function in stored() if function.name.startswith("hold_")]
    assert reserving == [], "a hold reserves money; who keeps others from changing rows locks them: lock_"


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_refusals_have_one_name_in_every_service() -> None:
    for service in SERVICE_NAMES:
        assert (ROOT / "services" / service / "domain" / "refusals.py").exists(), service


def sources() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, check=True).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).exists()]


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_a_function_fits_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name} has {size} lines"
        for path in sources()
        if not {"migrations", "tests"} & {*path.parts}
        for function in functions_of(path)
        if (size := (function.end_lineno or 0) - function.lineno + 1) > LINES_OF_A_FUNCTION_MAX
    ]
    assert long == [], "split it by its steps"


def test_a_file_is_one_idea() -> None:
    long = [
        f"{path.relative_to(ROOT)} has {size} lines"
        for path in sources()
        if "migrations" not in path.parts and (size := path.read_text().count("\n")) > LINES_OF_A_FILE_MAX
    ]
    assert long == [], "split it by concept"


def test_a_fixture_that_many_files_share_has_a_name_of_its_own() -> None:
    """Whatever one file of tests names in pytest_plugins, all of the run see: of two of one name one is nobody's."""
    helpers = set(re.findall(r'"(tests\.\w+\.\w+_desk)"', "".join(path.read_text() for path in TEST_FILES)))
    found = Counter(
        function.name
        for helper in helpers
        for function in functions_of(ROOT / f"{helper.replace('.', '/')}.py")
        if any("fixture" in ast.unparse(each) for each in function.decorator_list)
    )
    assert len(helpers) > 2, "the expression finds them no more"
    assert [name for name, count in found.items() if count > 1] == []


def test_decisions_are_numbered_one_after_another() -> None:
    """Two people who decide on the same day take the same number otherwise."""
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_client_s_methods_are_the_rpcs_of_its_peer() -> None:
    """What composes several, or asks in parts, says here why its name is another."""
    composed = {
        "list_subscription_holds",  # ListHolds of one kind, and open
        "list_balances",  # all pages of ListLedgerAccounts
    }
    protos = "\n".join(path.read_text("utf-8") for path in (ROOT / "protos").glob("realco/*/v1/*.proto"))
    rpcs = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in re.findall(r"^  rpc (\w+)\(", protos, re.MULTILINE)
    }
    odd = {
        f"{path.parent.name}: {node.name}.{method.name}"
        for path in sorted((ROOT / "services").glob("*/clients.py"))
        for node in parse(path).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Client")
        for method in node.body
        if isinstance(method, ast.AsyncFunctionDef) and method.name not in rpcs | composed
    }
    assert odd == set()
