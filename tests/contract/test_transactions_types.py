"""Each service has one table of the types of transactions that it deals with, and they say what the contract says."""

from __future__ import annotations

import ast
import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf.message import Message
from realco.escrow.v1.postings_pb2 import BatchBookPayoutsRequest, GetTransactionPreviewRequest
from realco.transactions.v1 import payouts_pb2
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.money_pb2 import Money

from services.chassis.events.handling import Delivery
from services.chassis.values.errors import OfNewerRelease
from services.distributions.commands.payouts.outcomes import is_payout
from services.distributions.commands.raises.contributions import is_contribution
from services.distributions.domain.destination import WITHOUT_ACCOUNT
from services.distributions.domain.payout import DESCRIPTIONS, PayoutType
from services.escrow.domain.chart import ISSUER_PROCEEDS, line_of
from services.escrow.domain.types import TYPES as BOOKED
from services.escrow.subscribers import SUBSCRIPTIONS
from services.transactions.domain.rails import RAILS
from services.transactions.domain.types import TYPES
from tests.support.sources import parse

SERVICES = Path(__file__).parents[2] / "services"
TABLES = {"transactions/domain/types.py", "escrow/domain/types.py", "distributions/domain/payout.py"}
OWN_ENUMS = {PayoutType.__name__}  # a table itself
ONLY_TYPES = {name for name in TYPES if name.startswith("ESCROW_")}
_FIELD: Any = validate_pb2.field
RELEASED_TO = ISSUER_PROCEEDS.kind.value  # where a closing puts every subscription


def taken_by(request: type[Message], field: str = "type") -> set[str]:
    """The names that an enum of a request may have."""
    described = request.DESCRIPTOR.fields_by_name[field]
    numbers = getattr(described.GetOptions().Extensions[_FIELD].enum, "in")
    return {described.enum_type.values_by_number[number].name for number in numbers}


def test_what_persons_order_no_service_does():
    by_persons = {each.name for each in TYPES.values() if each.is_ordered_by_persons}
    assert taken_by(pb.CreateTransactionRequest) == by_persons
    assert taken_by(payouts_pb2.BatchCreatePayoutsRequest.Item) == TYPES.keys() - by_persons


def test_a_second_person_approves_each_payout_that_staff_orders():
    of_staff = [each for each in TYPES.values() if each.is_for_staff]
    assert of_staff
    assert all(each.approval_reason and not each.is_inbound and not each.is_for_investors for each in of_staff)


def test_escrow_books_every_type_that_is_made_as_it_is_made():
    assert {each.name: each.is_inbound for each in BOOKED.values()} == {
        each.name: each.is_inbound for each in TYPES.values()
    }


def test_a_type_has_one_name_before_people_whichever_service_says_it():
    assert {each.name: each.label for each in BOOKED.values()} == {each.name: each.label for each in TYPES.values()}
    assert {paid.value: label for paid, label in DESCRIPTIONS.items()} == {
        each.name: each.label for each in TYPES.values() if not each.is_ordered_by_persons
    }


def test_a_payout_is_taken_from_the_ledger_account_that_escrow_takes_it_from():
    ordered = {each.name: each.source for each in TYPES.values() if not each.is_inbound}
    assert ordered == {name: each.ledger_account_kind for name, each in BOOKED.items() if not each.is_inbound}
    assert taken_by(BatchBookPayoutsRequest.Item) == ordered.keys()
    assert taken_by(GetTransactionPreviewRequest) == TYPES.keys()


def test_money_in_that_is_not_its_partys_alone_is_known_to_be_others_too():
    """A contribution is its party's until the closing, which releases it."""
    shared = {each.name: each.shared_target for each in TYPES.values()}
    assert shared == {
        each.name: (RELEASED_TO if TYPES[each.name].is_for_investment else each.ledger_account_kind.value)
        if each.is_inbound and (TYPES[each.name].is_for_investment or not line_of(each.ledger_account_kind).of_party)
        else None
        for each in BOOKED.values()
    }


def test_distributions_orders_every_payout_that_no_person_orders():
    assert {each.value for each in PayoutType} == taken_by(payouts_pb2.BatchCreatePayoutsRequest.Item)


NOT_BOOKED = sorted(number for name, number in pb.Transaction.Type.items() if name not in BOOKED)
OF_A_NEWER_RELEASE = 99


@pytest.mark.parametrize("type_", [*NOT_BOOKED, OF_A_NEWER_RELEASE])
def test_escrow_sets_aside_what_became_of_a_type_that_it_does_not_know(type_):
    [subscription] = SUBSCRIPTIONS
    delivery = Delivery(datetime(2026, 1, 1, tzinfo=UTC))
    for event, handle in subscription.handlers.items():
        with pytest.raises(OfNewerRelease):
            asyncio.run(handle(None, event(transaction=pb.Transaction(type=type_)), delivery))


@pytest.mark.parametrize("name", sorted(TYPES))
def test_distributions_counts_whatever_brings_money_in_for_an_investment(name):
    known = TYPES[name]
    transaction = pb.Transaction(
        type=name,
        direction=Money.Direction.IN if known.is_inbound else Money.Direction.OUT,
        investment_id="inv_1" if known.is_for_investment or known.gives_back else None,
    )
    assert is_contribution(transaction) is known.is_for_investment
    assert is_payout(transaction) is not known.is_ordered_by_persons


# What has a word in common with a type.
OTHER_LISTS = {("transactions/domain/sweeps.py", "REFUND")}  # a kind of movement of a provider's balance


def names_type(node: ast.AST, place: str) -> bool:
    """Some names mean something else too, outside the service that makes transactions: entries of the book, sagas."""
    match node:
        case ast.Constant(value=str() as name) if (place, name) in OTHER_LISTS:
            return False
        case ast.Constant(value=str() as name):
            return name in (TYPES if place.startswith("transactions/") else ONLY_TYPES)
        case ast.Attribute(attr=name, value=ast.Attribute(attr=enum) | ast.Name(id=enum)) if enum not in OWN_ENUMS:
            return name in (TYPES if enum in ("Transaction", "Type") else ONLY_TYPES)
        case _:
            return False


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("if transaction.type == transactions.Transaction.ESCROW_DEPOSIT: ...", True),
        ("kind = pb.Transaction.REFUND", True),
        ("kind = Txn.ESCROW_WITHDRAWAL", True),
        ("kind = Txn.Type.DEPOSIT", True),
        ("kind = 'ESCROW_DEPOSIT'", True),
        ("kind = PayoutType.ESCROW_WITHDRAWAL", False),
        ("kind = EntryType.DEPOSIT", False),
    ],
)
def test_a_name_of_a_type_is_found_as_text_and_in_the_enum(line, names):
    assert any(names_type(node, "distributions/subscribers.py") for node in ast.walk(ast.parse(line))) is names


def test_no_other_file_names_a_type():
    named = [
        f"{place}:{node.lineno} {ast.unparse(node)}"
        for file in SERVICES.rglob("*.py")
        if (place := str(file.relative_to(SERVICES))) not in TABLES and "migrations" not in file.parts
        for node in ast.walk(parse(file))
        if names_type(node, place)
    ]
    assert named == [], f"ask the table of the service what holds for it: {sorted(TABLES)}"


def test_distributions_counts_what_a_newer_release_brings_in_and_sets_aside_what_it_pays_out():
    brings, pays = (
        pb.Transaction(type=OF_A_NEWER_RELEASE, direction=direction, investment_id="inv_1")
        for direction in (Money.Direction.IN, Money.Direction.OUT)
    )
    assert is_contribution(brings)
    assert not is_contribution(pays)
    with pytest.raises(OfNewerRelease):
        is_payout(pays)


def test_distributions_knows_which_rails_pay_to_no_bank_account() -> None:
    assert {rail.payment_method for rail in RAILS.values() if not rail.pays_to_account} == WITHOUT_ACCOUNT
