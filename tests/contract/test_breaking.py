"""What the next release of the contracts may change, and what it may not: as tables, over the contracts of today."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from realco.type.v1 import access_pb2

from deploy.check import access_taken, contracts, narrowing
from tests.support.images import IMAGE, Change, access, changed, field, message, of, route, rules

HOLD = "realco.escrow.v1.PlaceHoldRequest"
PLACE_HOLD = "realco.escrow.v1.HoldsService.PlaceHold"
UPDATE_PARTY = "realco.compliance.v1.UpdatePartyRequest"
DISPLAY_NAME = "realco.escrow.v1.CreateEscrowAccountRequest.display_name"
GET_APPROVAL = "realco.approvals.v1.ApprovalsService.GetApproval"
POSTINGS = "realco.escrow.v1.PostingsService"
NEW = FieldDescriptorProto(name="note", number=99, type=FieldDescriptorProto.TYPE_STRING, label="LABEL_OPTIONAL")


def expression(image: FileDescriptorSet, rule: str) -> Any:
    extension: Any = validate_pb2.predefined
    return of(image).rules[rule].options.Extensions[extension].cel[0]


def add_field(image: FileDescriptorSet, name: str, *, required: bool) -> None:
    added = message(image, name).field.add()
    added.CopyFrom(NEW)
    if required:
        behavior: Any = field_behavior_pb2.field_behavior
        added.options.Extensions[behavior].append(field_behavior_pb2.REQUIRED)


def add_required_oneof(image: FileDescriptorSet, name: str) -> None:
    oneof: Any = validate_pb2.oneof
    changed_message = message(image, name)
    changed_message.oneof_decl.add(name="choice").options.Extensions[oneof].required = True
    changed_message.field.add(oneof_index=len(changed_message.oneof_decl) - 1).MergeFrom(NEW)


def leave_out(image: FileDescriptorSet, path: str) -> None:
    """A required text may be left out: it stays plain, and empty is not set."""
    behavior: Any = field_behavior_pb2.field_behavior
    del field(image, path).options.Extensions[behavior][:]
    rules(image, path).required = False
    rules(image, path).ignore = validate_pb2.IGNORE_IF_ZERO_VALUE


def list_values(image: FileDescriptorSet, path: str, *numbers: int) -> None:
    del getattr(rules(image, path).enum, "in")[:]
    getattr(rules(image, path).enum, "in").extend(numbers)


def replace_in(found: Any, old: str, new: str) -> None:
    assert old in found.expression
    found.expression = found.expression.replace(old, new)


NARROWING: list[tuple[str, Change, str]] = [
    ("a verb is another", lambda i: setattr(route(i, PLACE_HOLD), "put", "/api/v1/holds"), "its route was"),
    (
        "a path is another",
        lambda i: setattr(route(i, PLACE_HOLD), "post", "/api/v2/holds"),
        "its route was",
    ),
    ("a new field is required", lambda i: add_field(i, HOLD, required=True), f"{HOLD}.note is required now"),
    (
        "an old field is required",
        lambda i: setattr(rules(i, f"{HOLD}.expire_time"), "required", True),
        f"{HOLD}.expire_time is required now",
    ),
    (
        "a text is shorter",
        lambda i: setattr(rules(i, DISPLAY_NAME).string, "max_len", 100),
        "max_len is 100, was 200",
    ),
    (
        "a text must be longer",
        lambda i: setattr(rules(i, DISPLAY_NAME).string, "min_len", 2),
        "min_len is 2, was 1",
    ),
    (
        "a free text gets a pattern",
        lambda i: setattr(rules(i, DISPLAY_NAME).string, "pattern", "^[a-z]*$"),
        "the rule pattern was not set",
    ),
    (
        "a list takes fewer",
        lambda i: setattr(rules(i, "realco.escrow.v1.BatchPostJournalEntriesRequest.items").repeated, "max_items", 500),
        "max_items is 500, was 1000",
    ),
    ("a value is not taken any more", lambda i: list_values(i, f"{HOLD}.reason", 1, 2), "MANUAL is not taken any more"),
    (
        "a mask names fewer",
        lambda i: getattr(rules(i, f"{UPDATE_PARTY}.update_mask").field_mask, "in").remove("net_worth"),
        f"{UPDATE_PARTY}.update_mask: net_worth is not taken any more",
    ),
    (
        "a free text is one of a list",
        lambda i: getattr(rules(i, DISPLAY_NAME).string, "in").extend(["a", "b"]),
        f"{DISPLAY_NAME}: nothing else is taken now than a, b",
    ),
    (
        "a text may not be this one",
        lambda i: rules(i, DISPLAY_NAME).string.not_in.append("a"),
        f"{DISPLAY_NAME}: a is not taken any more",
    ),
    (
        "one of several fields is required",
        lambda i: (
            message(i, HOLD)
            .options.Extensions[validate_pb2.message]
            .oneof.add(fields=["transaction_id", "description"], required=True)
        ),
        f"{HOLD}: there is a new rule fields:",
    ),
    ("a oneof is required", lambda i: add_required_oneof(i, HOLD), f"{HOLD}: one of choice is required now"),
    (
        "an expression of many fields is another",
        lambda i: replace_in(expression(i, "key"), "255", "36"),
        "rule key: the expression of string.key has changed",
    ),
    ("a currency is lost", lambda i: replace_in(expression(i, "currency"), "|USD", ""), "rule currency"),
    (
        "a field's own expression is another",
        lambda i: replace_in(rules(i, f"{HOLD}.amount").cel[0], "> 0", "> 100"),
        f"{HOLD}.amount: the expression of",
    ),
    (
        "an answer's field may be absent",
        lambda i: setattr(field(i, "realco.escrow.v1.Hold.amount"), "proto3_optional", True),
        "realco.escrow.v1.Hold.amount is not always there any more",
    ),
]

WIDENING: list[tuple[str, Change]] = [
    ("nothing changes", lambda i: None),
    ("a field is added to a request", lambda i: add_field(i, HOLD, required=False)),
    ("a field is added to an answer", lambda i: add_field(i, "realco.escrow.v1.Hold", required=False)),
    ("a required text may be left out", lambda i: leave_out(i, DISPLAY_NAME)),
    ("a role is added", lambda i: access(i, PLACE_HOLD).roles.append(access_pb2.Access.SPONSOR)),
    (
        "a text may be longer",
        lambda i: setattr(rules(i, DISPLAY_NAME).string, "max_len", 300),
    ),
    (
        "a limit is gone",
        lambda i: rules(i, DISPLAY_NAME).string.ClearField("max_len"),
    ),
    (
        "a value is added to an enum",
        lambda i: of(i).enums["realco.escrow.v1.Hold.Reason"].value.add(name="COURT_ORDER", number=77),
    ),
    ("a currency is added", lambda i: replace_in(expression(i, "currency"), "|USD", "|USD|XYZ")),
    (
        "an answer's field is always there",
        lambda i: setattr(field(i, "realco.escrow.v1.Hold.expire_time"), "proto3_optional", False),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("title", "change", "sentence"), NARROWING, ids=[row[0] for row in NARROWING])
def test_what_breaks_a_caller_is_told(title: str, change: Change, sentence: str) -> None:
    found = narrowing.find_narrowing(IMAGE, changed(change))
    assert any(sentence in line for line in found), found


@pytest.mark.parametrize(("title", "change"), WIDENING, ids=[row[0] for row in WIDENING])
def test_what_no_caller_notices_is_allowed(title: str, change: Change) -> None:
    assert narrowing.find_narrowing(IMAGE, changed(change)) == narrowing.find_taken_access(IMAGE, changed(change)) == []


TAKEN: list[tuple[str, Change, str]] = [
    (
        "a role is lost",
        lambda i: access(i, PLACE_HOLD).roles.remove(access_pb2.Access.ADMIN),
        f"{PLACE_HOLD}: role ADMIN may not call it any more",
    ),
    (
        "a service is lost",
        lambda i: access(i, f"{POSTINGS}.BatchBookPayouts").services.remove("transactions"),
        f"{POSTINGS}.BatchBookPayouts: service transactions may not call it any more",
    ),
    (
        "what was public asks for a token",
        lambda i: access(i, "realco.transactions.v1.WebhooksService.ReceiveStripeWebhook").Clear(),
        "realco.transactions.v1.WebhooksService.ReceiveStripeWebhook is not public any more",
    ),
    (
        "a service passes on no person's call any more",
        lambda i: access(i, GET_APPROVAL).passed_on_by.remove("compliance"),
        f"{GET_APPROVAL}: service compliance may not pass on a person's call any more",
    ),
    (
        "a program is locked out",
        lambda i: setattr(access(i, PLACE_HOLD), "persons_only", True),
        f"{PLACE_HOLD}: programs may not call it any more",
    ),
]


@pytest.mark.parametrize(("title", "change", "sentence"), TAKEN, ids=[row[0] for row in TAKEN])
def test_a_right_is_taken_back_only_with_its_reason_and_a_line_in_the_changelog(title, change, sentence):
    assert narrowing.find_narrowing(IMAGE, changed(change)) == []
    taken = narrowing.find_taken_access(IMAGE, changed(change))
    assert taken == [sentence]
    rpc = re.findall(r"\.(\w+)[: ]", sentence)[0]
    log = "# Changes\n\n## 1.1.0\n\n### Added\n{added}\n\n### Taken\n{taken}\n\n## 1.0.0\n\n### Taken\nPlaceHold\n"
    told, elsewhere = log.format(added="", taken=f"- `{rpc}`: why."), log.format(added=rpc, taken="- `Other`.")
    reason = {sentence: "It was too wide."}
    for reasons, changelog, fault in (
        (reason, told, None),
        ({}, told, f"{sentence} (access_taken.toml does not say why)"),
        ({sentence: " "}, told, f"{sentence} (access_taken.toml does not say why)"),
        (reason, elsewhere, f'{sentence} (the changelog does not name it under "Taken")'),
        (reason | {"gone": "why"}, told, "access_taken.toml explains what is not taken: gone"),
    ):
        assert list(access_taken.find_unexplained(taken, reasons, changelog)) == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("rpc", "deprecated", "told"),
    [
        ("PostingsService.DeclareDistribution", False, True),
        ("PostingsService.DeclareDistribution", True, False),
        ("NotaryService.RecordApproval", True, False),
        # Nobody knows when the last client of a route is upgraded.
        ("HoldsService.PlaceHold", True, True),
    ],
)
def test_only_what_our_services_alone_call_goes_and_only_after_it_was_deprecated(
    rpc: str, deprecated: bool, told: bool, tmp_path: Path
) -> None:
    service, name = rpc.split(".")
    area = "compliance" if service == "NotaryService" else "escrow"
    before, after = (copy.deepcopy(IMAGE) for _ in range(2))
    of(before).methods[f"realco.{area}.v1.{rpc}"].options.deprecated = deprecated
    [file] = [one for one in after.file if any(found.name == service for found in one.service)]
    [shrunk] = [found for found in file.service if found.name == service]
    shrunk.method.remove(next(method for method in shrunk.method if method.name == name))
    file.message_type.remove(next(message for message in file.message_type if message.name == f"{name}Request"))
    assert narrowing.find_narrowing(before, after) == [f"realco.{area}.v1.{rpc} is gone"] * told
    for image, path in ((before, tmp_path / "before.binpb"), (after, tmp_path / "after.binpb")):
        path.write_bytes(image.SerializeToString())
    # buf does not know who may call: where nobody but our services may, it leaves the question to the lines above.
    found_by_buf = contracts.compare(tmp_path / "after.binpb", tmp_path / "before.binpb")
    assert bool(found_by_buf) == (service == "HoldsService")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The files as they are, in a repository of their own, committed and without a tag."""
    root = Path(__file__).parents[2]
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            "protos",
            "gateway",
            "services",
            "deploy",
        ],
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        if (root / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, tmp_path / name)
    run_git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def run_git(repository: Path, *arguments: str) -> None:
    environment = {**_without_git(), "GIT_CEILING_DIRECTORIES": str(repository.parent)}
    subprocess.run(["git", *arguments], cwd=repository, env=environment, check=True, capture_output=True)


def _without_git() -> dict[str, str]:
    """Whoever runs the tests from a hook or a rebase has its own repository in the environment: it is left alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def commit(repository: Path) -> None:
    run_git(repository, "add", "--all")
    run_git(repository, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "t")


def check(repository: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "deploy.check.contracts"]
    environment = {**_without_git(), "PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_contracts_are_compared_with_their_last_release_from_the_first_one_on(repository: Path) -> None:
    file = repository / "protos" / "realco" / "escrow" / "v1" / "escrow_accounts.proto"
    released = file.read_text()
    run_git(repository, "tag", "contracts-v1.0.0")
    # Later commits are compared with the release, not with one another: what the first allows, no sentence is about.
    for said, instead in (("max_len: 200", "max_len: 300"), ("        ADMIN,\n", "")):
        assert said in released
        file.write_text(released.replace(said, instead, 1))
        commit(repository)
    status, output = check(repository)
    assert status == 1, output
    assert "role ADMIN may not call it any more (access_taken.toml does not say why)" in output, output
    assert "max_len" not in output
    assert output.endswith("compared with contracts-v1.0.0\n")
    [sentence] = re.findall(r"breaks callers of contracts-v1.0.0: (.*) \(", output)
    (repository / "protos" / "access_taken.toml").write_text(f'"{sentence}" = "It was too wide."\n')
    changelog = repository / "protos" / "CHANGELOG.md"
    entry = f"\n## 1.1.0\n\n### Taken\n- `{sentence.partition(':')[0].rpartition('.')[2]}`: it was too wide.\n"
    changelog.write_text(changelog.read_text().replace("\n## 1.0.0", f"{entry}\n## 1.0.0"))
    assert check(repository) == (0, "contracts: linted, formatted, compared with contracts-v1.0.0\n")
