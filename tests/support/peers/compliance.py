"""Compliance in memory: who is not cleared, a limit a party, and the first decision about each transaction.

test_peers_compliance.py holds it against the real service, in all that other services read of the answers.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime

from google.protobuf.message import Message
from realco.compliance.v1 import clearances_pb2, notary_pb2, persons_pb2
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1.parties_pb2 import Party
from realco.type.v1.explanation_pb2 import Explanation
from realco.type.v1.failure_pb2 import Failure

from services.chassis.calls.wire import to_timestamp
from services.chassis.values.refusals import PartyNotFound
from services.compliance.domain.refusals import JustDecided, MovementNotDecided

Result = clearances_pb2.EvaluationResult
_Item = clearances_pb2.BatchEvaluateTransactionsRequest.Item


class MemoryCompliance:
    """Everybody is cleared who is not named in `uncleared`, with what is missing, or in `unknown`."""

    def __init__(self) -> None:
        self.uncleared: dict[str, str] = {}
        self.unknown: set[str] = set()  # parties that there are not
        self.names: dict[str, str] = {}  # by law, where it is no Ada Park
        self.kinds: dict[str, str] = {}  # what a party is by law, where it is no INDIVIDUAL
        self.parties: dict[str, set[str]] = {}  # person -> the parties that person acts for
        self.former: dict[str, set[str]] = {}  # those the person acted for not long ago
        self.ended: dict[str, datetime] = {}  # when the sessions of a person were ended
        self.revoked: set[str] = set()  # API keys
        self.daily_deposit_minor: int | None = None  # what a party may bring in; all happens on one day
        self.results: dict[str, Result] = {}  # party -> what the contract allows and no rule here leads to
        self.made: dict[str, Result] = {}  # transaction -> the result of it
        self.said: list[Message] = []  # what persons said about money that is to move
        self.is_just_decided = False  # so that nobody takes it back
        self.not_counted: str | None = None  # who said so and counts no longer, so that nothing is to move
        self._used: Counter[str] = Counter()
        self._decided: dict[str, _Item] = {}  # transaction -> what was decided on

    async def BatchEvaluateTransactions(
        self, request: clearances_pb2.BatchEvaluateTransactionsRequest, _: None
    ) -> clearances_pb2.BatchEvaluateTransactionsResponse:
        made, used, decided = dict(self.made), self._used.copy(), dict(self._decided)
        results = [self._evaluate(item) for item in request.items]
        if request.validate_only:
            self.made, self._used, self._decided = made, used, decided
        return clearances_pb2.BatchEvaluateTransactionsResponse(results=results)

    async def BatchGetClearances(
        self, request: clearances_pb2.BatchGetClearancesRequest, _: None
    ) -> clearances_pb2.BatchGetClearancesResponse:
        answer = clearances_pb2.BatchGetClearancesResponse()
        for party_id in request.party_ids:
            known = party_id not in self.unknown
            missing = self.uncleared.get(party_id) if known else "there is no such party"
            kind = Party.Kind.Value(self.kinds.get(party_id, "INDIVIDUAL")) if known else Party.KIND_UNSPECIFIED
            clearance = answer.clearances.add(party_id=party_id, cleared=missing is None, known=known, kind=kind)
            for statement in missing.split("; ") if missing is not None else ():
                clearance.missing.add(statement=statement, rule=_name_check(statement))
        return answer

    async def GetPartyName(self, request: clearances_pb2.GetPartyNameRequest, _: None) -> clearances_pb2.PartyName:
        party_id = request.party_id
        if party_id in self.unknown:
            raise PartyNotFound()
        return clearances_pb2.PartyName(
            party_id=party_id,
            legal_name=self.names.get(party_id, "Ada Park"),
            kind=self.kinds.get(party_id, "INDIVIDUAL"),
            cleared=party_id not in self.uncleared,
        )

    async def ListPartiesOfPerson(
        self, request: persons_pb2.ListPartiesOfPersonRequest, _: None
    ) -> persons_pb2.ListPartiesOfPersonResponse:
        found = set(self.parties.get(request.person_id, ()))
        found |= self.former.get(request.person_id, set()) if request.include_former else set()
        ended_at = self.ended.get(request.person_id)
        end_time = None if ended_at is None else to_timestamp(ended_at)
        return persons_pb2.ListPartiesOfPersonResponse(
            party_ids=sorted(found), sessions_end_time=end_time, api_key_revoked=request.api_key_id in self.revoked
        )

    async def RecordRequest(
        self, request: notary_pb2.RecordRequestRequest, _: None
    ) -> notary_pb2.RecordRequestResponse:
        self.said.append(request)
        return notary_pb2.RecordRequestResponse()

    async def RecordApproval(
        self, request: notary_pb2.RecordApprovalRequest, _: None
    ) -> notary_pb2.RecordApprovalResponse:
        self.said.append(request)
        return notary_pb2.RecordApprovalResponse()

    async def RecordExecution(
        self, request: notary_pb2.RecordExecutionRequest, _: None
    ) -> notary_pb2.RecordExecutionResponse:
        if self.not_counted is not None:
            raise MovementNotDecided("Not as many have decided it.", person_ids=[self.not_counted])
        if not request.validate_only:
            self.said.append(request)
        return notary_pb2.RecordExecutionResponse()

    async def RecordWithdrawal(
        self, request: notary_pb2.RecordWithdrawalRequest, _: None
    ) -> notary_pb2.RecordWithdrawalResponse:
        if self.is_just_decided and not request.after_refusal:
            raise JustDecided
        self.said.append(request)
        return notary_pb2.RecordWithdrawalResponse()

    def _evaluate(self, item: _Item) -> Result:
        result = Result(replayed=item.transaction_id in self.made)
        if item != self._decided.setdefault(item.transaction_id, item):
            message = "The transaction was decided on with another party, direction or amount."
            result = _fail("IDEMPOTENCY_KEY_REUSED", message, idempotency_key=item.transaction_id)
            result.transaction_id = item.transaction_id
            return result
        if not result.replayed:
            self.made[item.transaction_id] = self.results.get(item.party_id) or self._judge(item)
        result.MergeFrom(self.made[item.transaction_id])
        result.transaction_id = item.transaction_id
        return result

    def _judge(self, item: _Item) -> Result:
        if item.party_id in self.unknown:
            return _fail("PARTY_NOT_FOUND", "There is no such party.")
        if missing := self.uncleared.get(item.party_id):
            message = f"The party is not cleared: {missing}."
            check_types = json.dumps([_name_check(statement) for statement in missing.split("; ")])
            return _fail("PARTY_NOT_CLEARED", message, party_id=item.party_id, check_types=check_types)
        if item.is_contribution:
            used, limit, asked = self._used[item.party_id], self.daily_deposit_minor, item.amount.amount_minor
            if limit is not None and used + asked > limit:
                return _fail(
                    "TRANSACTION_LIMIT_EXCEEDED",
                    f"{asked} more than the {used} of today would pass {limit}.",
                    limit_type="DAILY_DEPOSIT",
                    limit_minor=str(limit),
                    used_minor=str(used),
                    requested_minor=str(asked),
                    remaining_minor=str(max(0, limit - used)),
                    currency_code=item.amount.currency_code,
                )
            self._used[item.party_id] += asked
        return decide(pb.ComplianceCheck.PASSED)


def decide(status: int, statement: str = "") -> Result:
    """By a check that stands so, and what it rests on."""
    explanation = Explanation(statement=statement) if statement else None
    return Result(compliance_check=pb.ComplianceCheck(status=status, explanation=explanation))


def _name_check(statement: str) -> str:
    """`KYC`, of `KYC is FAILED`."""
    return statement.partition(" ")[0]


def _fail(code: str, message: str, **metadata: str) -> Result:
    return Result(failure=Failure(code=code, message=message, metadata=metadata))
