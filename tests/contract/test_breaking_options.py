"""What the next release may do with the options and rules of ours: one table of changes and what is said of each."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

from deploy.check import narrowing
from tests.support.images import IMAGE, changed, of

Row = tuple[str, str, Any, str | None]

ESCROW, DISTRIBUTIONS = "realco.escrow.v1", "realco.distributions.v1"
COMPLIANCE, TRANSACTIONS = "realco.compliance.v1", "realco.transactions.v1"
HOLDS, APPROVALS = f"{ESCROW}.HoldsService", "realco.approvals.v1.ApprovalsService"
RULES = "buf.validate.field.string"

# What bears it, the option, its value from now on (None: it is taken off), and what is said of that.
CHANGES: list[Row] = [
    (f"{ESCROW}.HoldPlaced", "event.scope", "hold.hold_id", "was hold.escrow_account_id, is hold.hold_id"),
    (
        f"{ESCROW}.HoldReleased",
        "event.aggregate",
        "hold.hold_id",
        "was hold.escrow_account_id, is hold.hold_id",
    ),
    (f"{ESCROW}.HoldCaptured", "event.parts", "holds", "is holds now, and was not set"),
    (f"{DISTRIBUTIONS}.DistributionCalculated", "event.parts", None, "was allocations, and is taken off"),
    (f"{DISTRIBUTIONS}.DistributionDeclared", "event.parts", "payouts", "was allocations, is payouts"),
    (f"{ESCROW}.Hold.aggregate_version", "version_of", "hold_id", "was escrow_account_id, is hold_id"),
    (f"{ESCROW}.Hold.amount", "not_in_events", True, "is True now, and was not set"),
    (f"{ESCROW}.Hold.amount", "staff_only", True, "is True now, and was not set"),
    (f"{ESCROW}.Hold.amount", "told_by_author", "created_by", "is created_by now, and was not set"),
    (f"{ESCROW}.Hold.amount", "not_in_lists", True, "is True now, and was not set"),
    (f"{DISTRIBUTIONS}.Investment.external_id", "told_by_author", "party_id", "was created_by, is party_id"),
    (f"{DISTRIBUTIONS}.Investment.metadata", "told_by_author", None, None),
    ("realco.type.v1.Approval.summary", "not_in_events", None, None),
    ("realco.type.v1.Approval.comments", "not_in_lists", None, None),
    (f"{COMPLIANCE}.TransactionLimit.set_by", "staff_only", None, None),
    # `false` is what it is without the option.
    (f"{COMPLIANCE}.TransactionLimit.set_time", "staff_only", False, None),
    ("realco.type.v1.Failure.metadata", "keys_are_names", None, "was True, and is taken off"),
    ("realco.type.v1.Approval.Change.field", "is_field_name", None, "was True, and is taken off"),
    (f"{ESCROW}.PlaceHoldRequest.idempotency_key", "header", "Key", "was Idempotency-Key, is Key"),
    (f"{COMPLIANCE}.UpdatePartyRequest.kind", "not_cleared", None, None),
    (f"{COMPLIANCE}.UpdatePartyRequest.metadata", "not_cleared", True, "is True now, and was not set"),
    (f"{ESCROW}.FreezeEscrowAccountRequest.note", f"{RULES}.lines", None, "was True, and is taken off"),
    (f"{ESCROW}.CreateEscrowAccountRequest.display_name", f"{RULES}.lines", True, None),
    (f"{ESCROW}.PlaceHoldRequest.escrow_account_id", f"{RULES}.id", "acc", "was esc, is acc"),
    (
        f"{COMPLIANCE}.ComplianceService.ReviewComplianceCheck",
        "access.says_no",
        None,
        "was decision=FAILED, and is taken off",
    ),
    (f"{COMPLIANCE}.PartiesService.GetParty", "access.party_field", None, "was party_id, and is taken off"),
    (f"{HOLDS}.PlaceHold", "access.party_field", "party_id", "is party_id now, and was not set"),
    (f"{APPROVALS}.GetApproval", "access.passed_on_by", ["compliance", "escrow"], None),
    (f"{APPROVALS}.RejectApproval", "access.persons_only", None, None),
    (f"{APPROVALS}.CancelApproval", "four_eyes.one_person", "Nothing happens.", None),
    (f"{APPROVALS}.CommentApproval", "four_eyes.second_person", True, "is True now, and was not set"),
    (
        f"{COMPLIANCE}.ComplianceService.PutTransactionLimit",
        "four_eyes.waits",
        "OTHER",
        "is OTHER now, and was not set",
    ),
    (f"{APPROVALS}", "served_by.others", ["transactions", "escrow"], "was distributions, and is taken off"),
    (
        f"{COMPLIANCE}.ApiKeysService.CreateApiKey",
        "created",
        None,
        "was /api/v1/api-keys/{api_key.api_key_id}, and is taken off",
    ),
    (f"{COMPLIANCE}.ApiKeysService.CreateApiKey", "four_eyes.waits", "OTHER", "was APPROVE_API_KEY, is OTHER"),
    (
        f"{ESCROW}.EscrowAccountsService.CloseEscrowAccount",
        "accepted",
        None,
        "was /api/v1/approvals/{approval.approval_id}, and is taken off",
    ),
]


def put(image: FileDescriptorSet, path: str, name: str, value: Any) -> None:
    """Gives an option its value: `event.scope` of a message, `buf.validate.field.string.lines` of a field."""
    holder: Any = of(image).options[path]
    if name.startswith(RULES):
        rules: Any = descriptor_pool.Default().FindExtensionByName("buf.validate.field")
        holder, name = holder.Extensions[rules].string, name.removeprefix(f"{RULES}.")
    option, _, part = name.partition(".")
    extension: Any = descriptor_pool.Default().FindExtensionByName(f"realco.type.v1.{option}")
    if part:
        holder = holder.Extensions[extension]
        holder.ClearField(part)
        if isinstance(value, list):
            getattr(holder, part).extend(value)
        elif value is not None:
            setattr(holder, part, value)
    elif value is None:
        holder.ClearExtension(extension)
    else:
        holder.Extensions[extension] = value


def test_what_a_release_may_do_with_an_option_says_the_table() -> None:
    """All at once: each change is told by its own sentence, and nothing else is."""

    def change(image: FileDescriptorSet) -> None:
        for path, option, value, _ in CHANGES:
            put(image, path, option, value)

    wanted = [
        f"{path}: {option.removeprefix(f'{RULES}.')} {told}" for path, option, _, told in CHANGES if told is not None
    ]
    assert sorted(narrowing.find_narrowing(IMAGE, changed(change))) == sorted(wanted)


@pytest.mark.parametrize(
    ("where", "added", "told"),
    [
        ("event.proto", "extension", "option realco.type.v1.note is not in the table"),
        ("event.proto", "message_type", "option realco.type.v1.event.note is not in the table"),
        ("rules.proto", "extension", "option realco.type.v1.note is not in the table"),
    ],
)
def test_an_option_that_nobody_decided_about_is_told(where: str, added: str, told: str) -> None:
    def change(image: FileDescriptorSet) -> None:
        [file] = [one for one in image.file if one.name == f"realco/type/v1/{where}"]
        new = FieldDescriptorProto(name="note", number=50999, type=FieldDescriptorProto.TYPE_STRING)
        if added == "extension":
            new.extendee = file.extension[0].extendee
            file.extension.append(new)
        else:
            next(one for one in file.message_type if one.name == "Event").field.append(new)

    assert [line.partition(" of deploy")[0] for line in narrowing.find_narrowing(IMAGE, changed(change))] == [told]
