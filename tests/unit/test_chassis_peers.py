"""What a peer's failure means to whoever asked us."""

from __future__ import annotations

import grpc
import pytest
from grpc import aio
from structlog.testing import capture_logs

from services.chassis.calls.peers import ask, find
from services.chassis.calls.status import to_status
from services.chassis.values.errors import AnswerWithheld, Bug, DomainError, Kind, Refused, Unavailable

MALFORMED = {"party_id": "secret: is missing"}


def failing_with(error: aio.AioRpcError):
    async def method(request):
        raise error

    return method


def refusing(kind: Kind):
    """A peer that refuses with this kind."""
    said = to_status(Refused(kind, "REASON", "secret", MALFORMED, {"hold_id": "hold_1"}, "escrow.realco"), "")
    trailing = aio.Metadata(("grpc-status-details-bin", said.SerializeToString()))
    return failing_with(aio.AioRpcError(grpc.StatusCode[kind.name], aio.Metadata(), trailing, "secret"))


@pytest.mark.parametrize("kind", [Kind.NOT_FOUND, Kind.FAILED_PRECONDITION, Kind.ALREADY_EXISTS])
async def test_a_refusal_about_the_business_is_raised_as_it_came(kind):
    with pytest.raises(Refused) as refusal:
        await ask(refusing(kind), None)
    assert (refusal.value.kind, refusal.value.reason, refusal.value.domain) == (kind, "REASON", "escrow.realco")
    assert refusal.value.metadata == {"hold_id": "hold_1"}


@pytest.mark.parametrize("kind", [Kind.INVALID_ARGUMENT, Kind.PERMISSION_DENIED, Kind.UNAUTHENTICATED])
async def test_a_peer_that_takes_no_request_of_ours_tells_of_a_bug_and_only_the_log_knows_what_it_said(kind):
    with capture_logs() as logged, pytest.raises(Bug) as bug:
        await ask(refusing(kind), None)
    assert bug.value.kind is Kind.INTERNAL
    assert bug.value.kind.transient, "what waits in a row is tried again once it is mended"
    assert "secret" not in str(to_status(bug.value, "transactions.realco"))
    [line] = logged
    assert (line["said"], line["reason"], line["fields"]) == ("secret", "REASON", MALFORMED)
    assert line["error_id"] == bug.value.metadata["error_id"]


@pytest.mark.parametrize(
    "kind", [Kind.ABORTED, Kind.RESOURCE_EXHAUSTED, Kind.UNAVAILABLE, Kind.INTERNAL], ids=lambda kind: kind.name
)
async def test_whatever_else_a_peer_says_may_be_asked_again(kind):
    with pytest.raises(Unavailable):
        await ask(refusing(kind), None)


async def test_a_peer_that_waits_for_an_operator_says_for_which_row():
    said = to_status(AnswerWithheld("Nothing was done.", row="holds hold_1"), "escrow.realco")
    trailing = aio.Metadata(("grpc-status-details-bin", said.SerializeToString()))
    with pytest.raises(AnswerWithheld) as withheld:
        await ask(failing_with(aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), trailing, "")), None)
    assert withheld.value.metadata == {"row": "holds hold_1"}


async def test_a_lost_answer_may_be_asked_for_again():
    lost = aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, aio.Metadata(), aio.Metadata(), "secret")
    with pytest.raises(Unavailable):
        await ask(failing_with(lost), None)


async def test_what_a_peer_has_not_is_none_for_who_asks_whether_it_is_there():
    assert await find(refusing(Kind.NOT_FOUND), None) is None
    with pytest.raises(DomainError):
        await find(refusing(Kind.FAILED_PRECONDITION), None)
