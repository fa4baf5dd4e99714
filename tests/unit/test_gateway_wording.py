"""What gRPC's users read, as REST's users read it."""

from __future__ import annotations

import pytest
from realco.escrow.v1 import journal_pb2
from realco.transactions.v1 import transactions_pb2 as transactions
from realco.type.v1 import http_pb2

from gateway.wording import in_rest_words
from services.chassis.spelling.descriptors import camel_case, has_option


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("The page_token is damaged.", "The pageToken is damaged."),
        ("as `amount_minor` says", "as `amountMinor` says"),
        ("refused (FAILED_PRECONDITION)", "refused (422)"),
        ("another id is NOT_FOUND", "another id is 404"),
        ("answers with the code `NOT_FOUND`", "answers with the code `NOT_FOUND`"),
        ("ABORTED ETAG_MISMATCH for another version", "412 ETAG_MISMATCH for another version"),
        ("FAILED_PRECONDITION `IDEMPOTENCY_KEY_REUSED`", "422 `IDEMPOTENCY_KEY_REUSED`"),
        ("it is CANCELLED", "it is CANCELLED"),  # a status of a transaction
        ("see GetTransaction", "see `GET /api/v1/transactions/{transactionId}`"),
        ("see `GetTransaction`.", "see `GET /api/v1/transactions/{transactionId}`."),
        ("of TransactionsService.GetTransaction", "of `GET /api/v1/transactions/{transactionId}`"),
        ("BadRequest names each", "`errors` names each"),
        ("the account `issuer_proceeds`", "the account `issuer_proceeds`"),  # a value, not a name
        ("of txn_01m82m2t8bfas99k9gfg6cwrs9", "of txn_01m82m2t8bfas99k9gfg6cwrs9"),
        ("`etag` (REST: `If-Match`) names it", "`If-Match` names it"),
        ("Changes the fields that `update_mask` names and no others.", "Changes the fields that the body has."),
        ("", ""),
    ],
)
def test_a_text_is_said_in_rests_words(said, read):
    assert in_rest_words(said) == read


def test_a_field_is_called_by_its_header_where_it_has_one():
    request = transactions.CreateTransactionRequest.DESCRIPTOR
    [key] = [field for field in request.fields if has_option(field, http_pb2.header)]
    item = journal_pb2.BatchPostJournalEntriesRequest.DESCRIPTOR.fields_by_name["items"].message_type
    assert item is not None
    assert in_rest_words(key.name, request) == "Idempotency-Key"
    batch = journal_pb2.BatchPostJournalEntriesRequest.DESCRIPTOR
    assert in_rest_words("each item's `idempotency_key`", batch) == "each item's `idempotencyKey`"
    assert in_rest_words(key.name, item) == item.fields_by_name[key.name].json_name


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("amount", "amount"),
        ("bank_account.holder_name", "bankAccount.holderName"),
        ("items[3].a_b_c", "items[3].aBC"),
        ("OPEN_21_DAYS", "OPEN_21_DAYS"),
        ("", ""),
    ],
)
def test_names_are_spelled_as_json_spells_them(name, spelled):
    assert camel_case(name) == spelled
