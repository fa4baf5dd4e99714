"""What REST does with a contract's etags, patches and creations: tried with a contract made up for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
import orjson
import pytest
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from realco.escrow.v1 import holds_pb2, journal_pb2
from realco.type.v1 import http_pb2
from starlette.datastructures import Headers

from gateway.answers import Answer
from gateway.binding import Binding
from gateway.problems import Problem
from gateway.statuses import status_of

_STRING, _MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE


def _add_fields(message: Any, *names: str, optional: tuple[str, ...] = ()) -> None:
    for number, name in enumerate((*names, *optional), start=1):
        field = message.field.add(name=name, number=number, type=_STRING, label=1)
        if name in optional:
            field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")


def _things() -> Any:
    """A service of things that are created, and changed by whoever read them last."""
    file = descriptor_pb2.FileDescriptorProto(
        name="things.proto",
        package="realco.things.v1",
        syntax="proto3",
        dependency=["google/protobuf/field_mask.proto"],
    )
    _add_fields(file.message_type.add(name="Thing"), "thing_id", "etag", optional=("title",))
    _add_fields(file.message_type.add(name="CreateThingRequest"), "idempotency_key", "title")
    update = file.message_type.add(name="UpdateThingRequest")
    _add_fields(update, "thing_id", "etag", optional=("title", "note"))
    update.field.add(name="update_mask", number=9, type=_MESSAGE, label=1, type_name=".google.protobuf.FieldMask")
    update.field.add(name="validate_only", number=10, type=descriptor_pb2.FieldDescriptorProto.TYPE_BOOL, label=1)
    update.field[1].options.Extensions[http_pb2.header] = "If-Match"
    update.field[1].options.Extensions[field_behavior_pb2.field_behavior].append(field_behavior_pb2.REQUIRED)
    file.message_type[1].field[0].options.Extensions[http_pb2.header] = "Idempotency-Key"
    service = file.service.add(name="ThingsService")
    for name, verb, path in (
        ("CreateThing", "post", "/api/v1/things"),
        ("UpdateThing", "patch", "/api/v1/things/{thing_id}"),
    ):
        method = service.method.add(name=name, input_type=f".realco.things.v1.{name}Request")
        method.output_type = ".realco.things.v1.Thing"
        rule = method.options.Extensions[annotations_pb2.http]
        setattr(rule, verb, path)
        rule.body = "*"
    service.method[0].options.Extensions[http_pb2.created] = "/api/v1/things/{thing_id}"
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("realco.things.v1.ThingsService")


THINGS = _things()
CREATE: MethodDescriptor = THINGS.methods_by_name["CreateThing"]
UPDATE: MethodDescriptor = THINGS.methods_by_name["UpdateThing"]
Thing = GetMessageClass(CREATE.output_type)


def patch(body: bytes, *if_match: str) -> Any:
    headers = Headers(raw=[(b"if-match", value.encode()) for value in if_match])
    return Binding(UPDATE).message(["t-1"], b"", headers, body)


def test_what_is_created_is_answered_with_201_and_where_it_is_read():
    answer = Answer(CREATE).of(Thing(thing_id="a b/c", etag="7"), replayed=False)
    assert (answer.status_code, answer.headers["location"]) == (201, "/api/v1/things/a%20b%2Fc")
    assert (answer.headers["etag"], orjson.loads(answer.body)["etag"]) == ('"7"', "7")
    assert "idempotency-replayed" not in answer.headers


def test_a_replayed_answer_is_the_first_one_and_says_so():
    answer = Answer(CREATE).of(Thing(thing_id="t-1"), replayed=True)
    assert (answer.status_code, answer.headers["idempotency-replayed"]) == (201, "true")


def test_what_is_only_validated_is_not_created():
    answer = Answer(CREATE).of(Thing(thing_id="t-1"), replayed=False, rehearsed=True)
    assert (answer.status_code, answer.headers["validate-only"]) == (200, "true")
    assert "location" not in answer.headers
    assert "validate-only" not in Answer(CREATE).of(Thing(thing_id="t-1"), replayed=False).headers


@pytest.mark.parametrize(
    ("response", "status", "location"),
    [
        (journal_pb2.PostJournalEntryResponse(approval={"approval_id": "apr_1"}), 202, "/api/v1/approvals/apr_1"),
        (
            journal_pb2.PostJournalEntryResponse(journal_entry={"journal_entry_id": "je_1", "escrow_account_id": "e"}),
            201,
            "/api/v1/escrow-accounts/e/journal-entries/je_1",
        ),
        (holds_pb2.CaptureHoldResponse(approval={"approval_id": "apr_1"}), 202, "/api/v1/approvals/apr_1"),
        (holds_pb2.CaptureHoldResponse(hold={"hold_id": "hold_1"}), 200, None),
        (journal_pb2.BatchPostJournalEntriesResponse(posted={"results": [{"idempotency_key": "k"}]}), 200, None),
    ],
)
def test_what_only_waits_is_202_what_was_created_201_and_what_was_done_200(response, status, location):
    [service] = response.DESCRIPTOR.file.services_by_name.values()
    rpc = next(one for one in service.methods if one.output_type is response.DESCRIPTOR)
    answer = Answer(rpc).of(response, replayed=False)
    assert (answer.status_code, answer.headers.get("location")) == (status, location)


def test_what_is_changed_is_answered_with_200_and_its_new_etag():
    answer = Answer(UPDATE).of(Thing(thing_id="t-1", etag="8"), replayed=False)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"8"')
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/things/{thing_id}/{nothing}", "/things/{title.text}", "things"])
def test_a_location_that_is_not_of_the_response_is_refused_at_the_start(path):
    method = descriptor_pb2.MethodDescriptorProto()
    method.options.Extensions[http_pb2.created] = path
    odd: Any = SimpleNamespace(output_type=CREATE.output_type, GetOptions=lambda: method.options)
    with pytest.raises(ValueError, match=r"has no field|path template"):
        Answer(odd)


@pytest.mark.parametrize("given", ['"7"', "7"])
def test_an_etag_comes_in_the_quotes_of_its_header_or_bare_as_its_field(given):
    assert patch(b"{}", given).etag == "7"


@pytest.mark.parametrize("given", ["*", 'W/"7"', '"7", "8"', '""', '"7', '"a b"', '"' + "7" * 256 + '"'])
def test_another_spelling_of_an_etag_is_refused(given):
    with pytest.raises(Problem) as refusal:
        patch(b"{}", given)
    assert (refusal.value.status, refusal.value.faults[0].pointer) == (400, "/If-Match")


def test_a_write_without_the_etag_it_needs_is_428_and_with_an_old_one_412():
    with pytest.raises(Problem) as refusal:
        patch(b"{}")
    assert (refusal.value.status, refusal.value.code) == (428, "ETAG_REQUIRED")
    assert status_of(grpc.StatusCode.ABORTED, "ETAG_MISMATCH") == 412


@pytest.mark.parametrize(
    ("body", "mask", "title"),
    [
        (b"", [], ""),
        (b"{}", [], ""),
        (b'{"title": "new"}', ["title"], "new"),
        (b'{"title": ""}', ["title"], ""),
        (b'{"title": null}', ["title"], ""),  # taken away
        (b'{"note": "n", "title": "new"}', ["note", "title"], "new"),
        (b'{"title": "new", "validateOnly": true}', ["title"], "new"),  # says nothing about the resource
        (b'{"validateOnly": false}', [], ""),
    ],
)
def test_a_patch_changes_what_its_body_names(body, mask, title):
    request = patch(body, '"7"')
    assert (list(request.update_mask.paths), request.title) == (mask, title)
    assert request.HasField("title") == (b'"title": "' in body)


@pytest.mark.parametrize("name", ["updateMask", "thingId", "etag", "update_mask"])
def test_a_patch_has_what_it_changes_in_its_body_and_nothing_else(name):
    with pytest.raises(Problem) as refusal:
        patch(orjson.dumps({name: "title"}), '"7"')
    assert [(fault.place, fault.pointer) for fault in refusal.value.faults] == [("body", f"/{name}")]
