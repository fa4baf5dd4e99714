"""What people change over REST: a PATCH that changes nothing leaves no trace, and a limit is one resource."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from google.api import annotations_pb2

from demo.harness.money import usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json
from gateway import contracts
from tests.e2e.organization import Organization
from tests.support.read_model import read_events


@dataclass(frozen=True)
class Patched:
    """A resource with a PATCH: its path, what it has already, and a change that is one."""

    make: Callable[[Organization], str]
    same: Json
    again: tuple[str, ...]  # fields sent as they were read
    change: Json


PATCHED = {
    "/api/v1/parties/{party_id}": Patched(
        lambda org: f"/parties/{org.add_cleared_party()}",
        {"accreditation": "ACCREDITED", "metadata": {}},
        ("kind", "legalName", "accreditation"),
        {"metadata": {"a": "b"}},
    ),
    "/api/v1/bank-accounts/{bank_account_id}": Patched(
        lambda org: f"/bank-accounts/{org.add_bank_account(org.add_cleared_party())}",
        {"defaultForPayouts": True, "metadata": {}},
        ("defaultForPayouts",),
        {"metadata": {"a": "b"}},
    ),
    "/api/v1/escrow-accounts/{escrow_account_id}": Patched(
        lambda org: f"/escrow-accounts/{org.open_escrow_account()}",
        {"displayName": "Oak Street escrow", "metadata": {}},
        ("displayName",),
        {"metadata": {"a": "b"}},
    ),
    "/api/v1/offerings/{offering_id}": Patched(
        lambda org: f"/offerings/{org.open_offering(1_000_00)['offeringId']}",
        {"displayName": "Oak Street Apartments", "metadata": {}},
        ("displayName", "deadlineTime", "terms"),
        {"metadata": {"a": "b"}},
    ),
}


def test_every_patch_is_in_the_table_below() -> None:
    routes = {
        method.GetOptions().Extensions[annotations_pb2.http].patch  # type: ignore[index]
        for service in contracts.services()
        for method in service.methods
    }
    assert routes - {""} == PATCHED.keys()


@pytest.mark.parametrize("patched", PATCHED.values(), ids=PATCHED.keys())
def test_a_change_that_changes_nothing_makes_no_new_version_and_no_event(org: Organization, patched: Patched) -> None:
    path = patched.make(org)
    before = org.admin.get(path)
    resource_id = path.rpartition("/")[2]

    def read_told() -> tuple[int, Json]:
        """How many events tell of it, and the state that the last of them tells."""
        found = asyncio.run(read_events(org.instance.nats_url(), org.org_id))
        states = [state for (_, known_id), state in found.state.items() if known_id == resource_id]
        return found.versions.get(resource_id, 0), states[0] if states else {}

    def tells(found: tuple[int, Json], resource: Json) -> bool:
        shared = found[1].keys() & resource.keys()
        return bool(shared) and all(found[1][name] == resource[name] for name in shared)

    def patch(body: Json) -> Json:
        response = org.admin.request("PATCH", path, json=body, headers={"If-Match": f'"{before["etag"]}"'})
        assert response.status_code == 200, response.text
        return dict(response.json())

    told, _ = wait_for("what was done before to be told", read_told, lambda found: tells(found, before))
    assert patch(patched.same) == before
    assert patch({name: before[name] for name in patched.again}) == before
    changed = patch(patched.change)  # on the very same version
    assert changed["etag"] != before["etag"]
    # Numbers have no gaps: if the next event is the change's, there was none before it.
    now_told = wait_for("the change to be told", read_told, lambda found: tells(found, changed))
    assert now_told[0] == told + 1


def test_what_is_only_rehearsed_has_no_etag_so_nobody_passes_over_what_another_changed(org: Organization) -> None:
    path = f"/parties/{org.add_cleared_party()}"
    read = org.admin.get(path)

    def patch(body: Json, etag: str) -> tuple[int, Json, str | None]:
        response = org.admin.request("PATCH", path, json=body, headers={"If-Match": f'"{etag}"'})
        return response.status_code, dict(response.json()), response.headers.get("ETag")

    status, rehearsed, header = patch({"metadata": {"a": "b"}, "validateOnly": True}, read["etag"])
    assert (status, rehearsed["metadata"], header) == (200, {"a": "b"}, f'"{rehearsed["etag"]}"')
    assert org.admin.get(path) == read
    status, changed, _ = patch({"metadata": {"a": "b"}}, read["etag"])
    assert (status, changed["etag"] in (read["etag"], rehearsed["etag"])) == (200, False)
    status, refused, _ = patch({"metadata": {"a": "c"}}, rehearsed["etag"])
    assert (status, refused["code"]) == (412, "ETAG_MISMATCH")


def test_a_limit_is_read_set_and_removed_as_read(org: Organization) -> None:
    path, admin = "/transaction-limits", org.admin
    [default] = [one for one in admin.get(path)["transactionLimits"] if one["type"] == "DAILY_DEPOSIT"]
    assert (default["isDefault"], "setBy" in default) == (True, False)
    wanted = {"type": "DAILY_DEPOSIT", "amount": usd(5)}
    admin.expect_refusal(428, "ETAG_REQUIRED", "PUT", path, wanted)
    one = f"{path}/{default['transactionLimitId']}"
    org.approve(admin.put(path, wanted, etag=default["etag"]))
    own = org.auditor.get(one)
    assert own["setBy"] == admin.user
    admin.expect_refusal(412, "ETAG_MISMATCH", "PUT", path, wanted, etag=default["etag"])
    admin.expect_refusal(428, "ETAG_REQUIRED", "DELETE", one)
    admin.expect_refusal(412, "ETAG_MISMATCH", "DELETE", one, etag=default["etag"])
    org.auditor.expect_refusal(403, "PERMISSION_DENIED", "DELETE", one, etag=own["etag"])
    org.approve(admin.delete(one, etag=own["etag"]))
    again = admin.get(one)
    assert (again["isDefault"], again["amount"]) == (True, default["amount"])
    admin.expect_refusal(422, "TRANSACTION_LIMIT_IS_DEFAULT", "DELETE", one, etag=again["etag"])
    assert admin.get(path, currencyCode="EUR")["transactionLimits"] == []
