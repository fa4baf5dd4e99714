"""Who may call, and with what: access rules, page tokens."""

from __future__ import annotations

import dataclasses
import itertools
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from google.protobuf import descriptor_pb2, descriptor_pool
from realco.compliance.v1 import compliance_pb2, parties_pb2
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.type.v1 import access_pb2, approval_pb2
from sqlalchemy.dialects import postgresql

from services.chassis.calls import access
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.paging import Page, PageTokenInvalid
from services.chassis.data.reach import within_reach
from services.chassis.runtime.boot import check_nats_version
from services.chassis.values.errors import BootError, InvalidField, PermissionDenied
from services.chassis.values.refusals import PartyNotFound

HOLDS = holds_pb.DESCRIPTOR.services_by_name["HoldsService"]
POSTINGS = postings_pb.DESCRIPTOR.services_by_name["PostingsService"]
COMPLIANCE = compliance_pb2.DESCRIPTOR.services_by_name["ComplianceService"]
INVESTOR = Principal("ann", "investor", "org_1", parties=frozenset({"inv_1", "inv_2"}))
ACCOUNT = "esc_" + "0" * 26


# --- access ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "admitted"), [("admin", True), ("service", False), ("investor", False), ("auditor", False), ("", False)]
)
def test_only_the_roles_of_the_option_may_call(role, admitted):
    rule = access.rules_of([HOLDS])["/realco.escrow.v1.HoldsService/PlaceHold"]
    principal = dataclasses.replace(INVESTOR, role=role)
    if admitted:
        rule.admit(principal)
    else:
        with pytest.raises(PermissionDenied) as refusal:
            rule.admit(principal)
        told = {} if role == "service" else {"roles": '["admin"]'}
        assert refusal.value.metadata == told, "whoever may not call it reads who may"


@pytest.mark.parametrize(
    ("service", "admitted"), [("distributions", True), ("transactions", False), ("escrow", False), ("", False)]
)
def test_only_the_services_of_the_option_may_call(service, admitted):
    rule = access.rules_of([POSTINGS])["/realco.escrow.v1.PostingsService/DeclareDistribution"]
    principal = Principal(f"service:{service}", "service", "org_1")
    if admitted:
        rule.admit(principal)
    else:
        with pytest.raises(PermissionDenied):
            rule.admit(principal)


def refuse() -> None:
    raise PartyNotFound


@pytest.mark.parametrize(
    ("role", "rule", "allowed"),
    [
        ("admin", True, ["place_hold"]),
        ("admin", False, []),
        ("admin", lambda: None, ["place_hold"]),
        ("admin", refuse, []),
        ("auditor", True, []),  # the contract does not let it call
        ("auditor", lambda: None, []),
    ],
)
def test_an_action_is_offered_where_the_contract_and_the_rules_let_it_happen(role, rule, allowed):
    with acting_as(dataclasses.replace(INVESTOR, role=role)):
        assert access.list_allowed_actions(accounts_pb.EscrowAccount, ("HoldsService/PlaceHold", rule)) == allowed


@pytest.mark.parametrize(
    ("named", "role", "is_there"),
    [
        ("", "investor", True),  # a list of what belongs to all its parties
        ("inv_1", "investor", True),
        ("inv_2", "investor", True),
        ("inv_3", "investor", False),  # another's does not exist, as far as it can see
        ("ann", "investor", False),  # a person is no party
        ("inv_3", "admin", True),
        ("", "admin", True),
    ],
)
def test_an_investor_reaches_only_its_parties(named, role, is_there):
    rule = access.Rule(frozenset({"investor", "admin"}), frozenset(), public=False, party_path=("party_id",))
    request = compliance_pb2.ListComplianceChecksRequest(party_id=[named])
    principal = dataclasses.replace(INVESTOR, role=role)
    if is_there:
        rule.confine(principal, request)
    else:
        with pytest.raises(PartyNotFound) as refusal:
            rule.confine(principal, request)
        assert set(refusal.value.fields) == {"party_id"}
    assert request.party_id == [named]


def test_a_party_in_the_path_of_a_route_is_no_fault_of_a_field():
    [parties] = parties_pb2.DESCRIPTOR.services_by_name.values()
    rule = access.rules_of([parties])["/realco.compliance.v1.PartiesService/GetParty"]
    with pytest.raises(PartyNotFound) as refusal:
        rule.confine(INVESTOR, parties_pb2.GetPartyRequest(party_id="inv_3"))
    assert refusal.value.fields == {}


ONE, SEVERAL, NONE = frozenset({"inv_1"}), frozenset({"inv_1", "inv_2"}), frozenset[str]()


@pytest.mark.parametrize(
    ("role", "parties", "named", "chosen"),
    [
        ("investor", ONE, "", "inv_1"),  # there is no other
        ("investor", SEVERAL, "", InvalidField),
        ("investor", NONE, "", InvalidField),
        ("investor", SEVERAL, "inv_2", "inv_2"),
        ("investor", SEVERAL, "inv_3", PartyNotFound),
        ("admin", NONE, "", InvalidField),
        ("admin", NONE, "inv_3", "inv_3"),
    ],
)
def test_a_creation_is_for_the_named_party_or_the_only_one(role, parties, named, chosen):
    principal = Principal("ann", role, "org_1", parties=parties)
    if isinstance(chosen, str):
        assert principal.choose_party(named) == chosen
    else:
        with pytest.raises(chosen) as refusal:
            principal.choose_party(named)
        assert set(refusal.value.fields) == {"party_id"}


def test_a_list_shows_rows_of_the_callers_parties():
    party = sa.column("party_id", sa.Text)
    for role, shown in [("investor", "party_id IN ('inv_1', 'inv_2')"), ("admin", "true")]:
        with acting_as(dataclasses.replace(INVESTOR, role=role)):
            condition = within_reach(party).compile(
                dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
            )
        assert str(condition) == shown


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        (None, "has no (realco.type.v1.access)"),
        (access_pb2.Access(roles=[access_pb2.Access.ADMIN], public=True), "is public, and names who may call"),
        (access_pb2.Access(roles=[access_pb2.Access.ROLE_UNSPECIFIED]), "ROLE_UNSPECIFIED"),
        (access_pb2.Access(roles=[access_pb2.Access.INVESTOR], party_field="nobody"), "party_field nobody"),
        (access_pb2.Access(roles=[access_pb2.Access.INVESTOR], party_field="seconds"), "party_field seconds"),
    ],
)
def test_an_rpc_without_a_sensible_option_keeps_its_service_from_starting(option, fault):
    with pytest.raises(BootError, match=r"Odd\.Do") as refusal:
        access.rules_of([_service_with(option)])
    assert fault in str(refusal.value)


@pytest.mark.parametrize(
    "four_eyes", [approval_pb2.FourEyes(two_persons=True), approval_pb2.FourEyes(waits="DO")], ids=["asks", "waits"]
)
def test_an_rpc_that_does_not_say_who_reads_its_approvals_keeps_its_service_from_starting(four_eyes):
    admins = access_pb2.Access(roles=[access_pb2.Access.ADMIN])
    with pytest.raises(BootError, match=r"Odd\.Do: does not say with which RPC its approvals are read"):
        access.rules_of([_service_with(admins, four_eyes)])


def test_every_rpc_there_is_has_its_rule():
    assert len(access.rules_of([HOLDS, COMPLIANCE])) == len(HOLDS.methods) + len(COMPLIANCE.methods)


_packages = itertools.count()


def _service_with(option: access_pb2.Access | None, four_eyes: approval_pb2.FourEyes | None = None):
    """A service nobody wrote, with one RPC."""
    package = f"odd{next(_packages)}"
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    timestamp = ".google.protobuf.Timestamp"
    method = file.service.add(name="Odd").method.add(name="Do", input_type=timestamp, output_type=timestamp)
    if option is not None:
        method.options.Extensions[access_pb2.access].CopyFrom(option)
    if four_eyes is not None:
        method.options.Extensions[approval_pb2.four_eyes].CopyFrom(four_eyes)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(f"{package}.Odd")


# --- pages -----------------------------------------------------------------------------------------------------------

KEY = (datetime(2026, 11, 22, tzinfo=UTC), "hold_1")
COLUMNS = [sa.column("created_at", sa.TIMESTAMP(timezone=True)), sa.column("hold_id", sa.Text)]


def page(**fields) -> Page:
    return Page.of(holds_pb.ListHoldsRequest(escrow_account_id=ACCOUNT, **fields))


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (-1, 50), (2**31 - 1, 1000)])
def test_a_page_has_a_size_within_bounds(asked, size):
    assert page(page_size=asked).size == size


def test_the_last_page_has_no_token():
    assert page(page_size=2).cut([KEY, KEY], lambda row: row) == ([KEY, KEY], "", "")
    rows, token, _ = page(page_size=1).cut([KEY, KEY], lambda row: row)
    assert rows == [KEY]
    assert page(page_token=token).beside == KEY


def test_a_page_begins_after_the_last_row():
    token = page(page_size=1).cut([KEY, KEY], lambda row: row).next_page_token
    query = page(page_size=3, page_token=token).of_query(sa.select(*COLUMNS), COLUMNS)
    sql = str(query.compile(dialect=postgresql.dialect()))
    assert "(created_at, hold_id) < (" in sql
    assert "ORDER BY created_at DESC, hold_id DESC" in sql


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "!!!",
        "é",
        "A" * 2000,
        urlsafe_b64encode(b"[]").decode(),
        urlsafe_b64encode(b'["digest",false,[["t","x"]]]').decode(),
        urlsafe_b64encode(b"[" * 500).decode(),
        urlsafe_b64encode(b"null").decode(),
    ],
)
def test_a_token_we_did_not_make_is_refused(token):
    with pytest.raises(PageTokenInvalid):
        page(page_token=token)


@pytest.mark.parametrize(
    "part",
    [
        ["t", "0001-01-01T00:00:00+23:59"],  # before the year 1 in UTC
        ["t", "9999-12-31T23:59:59-23:59"],
        ["t", "2026-01-31T12:00:00"],
        ["t", 5],
        ["v", "\ud800"],  # half a surrogate pair
        ["v", "a\0b"],
    ],
)
def test_a_token_with_a_value_no_row_can_have_is_refused(part):
    """The digest in a token is no secret: whoever has one token can write others for its query."""
    token = page(page_size=1).cut([KEY, KEY], lambda row: row).next_page_token
    digest, backward, parts = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    forged = json.dumps([digest, backward, [part if known[0] == part[0] else known for known in parts]])
    with pytest.raises(PageTokenInvalid):
        page(page_token=urlsafe_b64encode(forged.encode()).decode())


def test_a_token_belongs_to_its_filters_and_its_organization():
    with acting_as(INVESTOR):
        token = page(page_size=1).cut([KEY, KEY], lambda row: row).next_page_token
        assert page(page_size=9, page_token=token).beside == KEY  # another size is the same query
        with pytest.raises(PageTokenInvalid):
            page(page_token=token, status=[holds_pb.Hold.PLACED])
    with acting_as(dataclasses.replace(INVESTOR, org_id="org_2")), pytest.raises(PageTokenInvalid):
        page(page_token=token)


@pytest.mark.parametrize("key", [("hold_1", "hold_1"), (KEY[0],), (*KEY, "x"), (KEY[0], 7)])
def test_a_key_of_another_shape_is_refused(key):
    token = page(page_size=1).cut([key, key], lambda row: row).next_page_token
    with pytest.raises(PageTokenInvalid):
        page(page_token=token).of_query(sa.select(*COLUMNS), COLUMNS)


@pytest.mark.parametrize(
    ("version", "good"), [("2.15.1", True), ("2.16.0-RC.1", True), ("2.15.0", False), ("2.9.25", False)]
)
def test_a_nats_that_loses_messages_is_refused(version, good):
    if good:
        check_nats_version(version)
    else:
        with pytest.raises(BootError):
            check_nats_version(version)
