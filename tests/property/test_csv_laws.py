"""What goes out as CSV comes in again as it was, whatever people wrote."""

from __future__ import annotations

import csv
import io

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from realco.transactions.v1 import transactions_pb2 as pb
from starlette.datastructures import Headers

from gateway.csv_columns import protect, unprotect
from gateway.csv_import import CsvBinding, find_rows
from services.chassis.spelling.json_writer import writer_of

SERVICE = pb.DESCRIPTOR.services_by_name["TransactionsService"]
CREATE = SERVICE.methods_by_name["BatchCreateTransactions"]
BINDING = CsvBinding(CREATE, find_rows(CREATE))
law = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# With more of what is hard than chance would give.
texts = st.text("'=+-@\t\r\n\",; aé\U0001f600", min_size=1, max_size=8) | st.text(min_size=1, max_size=8)
items = st.builds(
    pb.CreateTransactionRequest,
    idempotency_key=texts,
    type=st.sampled_from([1, 7]),
    payment_method=st.sampled_from([1, 2, 3]),
    amount=st.fixed_dictionaries({"currency_code": texts, "amount_minor": st.integers(-(2**63), 2**63 - 1)}),
    escrow_account_id=texts,
    party_id=st.none() | texts,
    description=st.none() | texts,
    external_id=st.none() | texts,
    metadata=st.dictionaries(texts, st.text(max_size=8), max_size=3),
)


@law
@given(st.text("'=+-@\t\ra\uff1d\uff0b\uff0d\uff20") | st.text())
def test_the_apostrophe_comes_off_again_and_no_other_does(text):
    cell = protect(text)
    assert unprotect(cell) == text
    assert cell[:1] not in set("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
    assert unprotect(text) in (text, text[1:])


@law
@given(st.lists(items, min_size=1, max_size=4))
def test_a_file_is_read_as_what_was_written_into_it(sent):
    file = io.StringIO(newline="")
    writer, spell = csv.writer(file), writer_of(pb.CreateTransactionRequest.DESCRIPTOR)
    writer.writerow([column.name for column in BINDING.columns])
    writer.writerows([column.write(spell(item)) for column in BINDING.columns] for item in sent)
    message, missing = BINDING.read([], b"", Headers({}), file.getvalue().encode())
    assert (list(message.items), missing) == (sent, [])
