"""The protos and the house know the same currencies."""

from __future__ import annotations

import re
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from realco.escrow.v1 import escrow_accounts_pb2
from realco.type.v1 import money_pb2, rules_pb2

from services.chassis.calls import validation
from services.chassis.values.currencies import MINOR_DIGITS
from services.chassis.values.errors import InvalidField
from services.chassis.values.ids import new_id


def codes_of_the_rule() -> list[str]:
    """What the expression of the predefined rule lists."""
    option: Any = validate_pb2.predefined
    rule: Any = rules_pb2.DESCRIPTOR.extensions_by_name["currency"]
    assert rule.type == FieldDescriptorProto.TYPE_BOOL
    listed = re.search(r"\^\(([A-Z|]+)\)\$", rule.GetOptions().Extensions[option].cel[0].expression)
    assert listed is not None
    return listed.group(1).split("|")


def test_the_rule_lists_the_currencies_of_the_house():
    assert codes_of_the_rule() == sorted(MINOR_DIGITS)


@pytest.mark.parametrize(
    ("code", "taken"),
    [
        *((code, True) for code in ("USD", "EUR", "JPY", "KWD", "XOF")),
        *((code, False) for code in ("AAA", "QQQ", "XXX", "XTS", "XAU", "XDR", "CLF", "USN", "BGN", "usd", "USDT", "")),
    ],
)
def test_a_request_names_a_currency_money_can_be_held_in(code, taken):
    for request in (
        money_pb2.Money(currency_code=code, amount_minor=1),
        escrow_accounts_pb2.CreateEscrowAccountRequest(
            idempotency_key="k",
            display_name="Oak",
            custodian_name="Bank",
            currency_code=code,
            sponsor_party_id=new_id("pty"),
        ),
    ):
        if taken:
            validation.validate(request)
            continue
        with pytest.raises(InvalidField) as refusal:
            validation.validate(request)
        assert list(refusal.value.fields) == ["currency_code"]
