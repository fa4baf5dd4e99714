"""The description says which lists are answered as files of CSV, which batches take one, and the columns of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gateway import openapi
from gateway.csv_export import HEADERS

CSV = "text/csv"
DOCUMENT = openapi.document()


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for item in DOCUMENT["paths"].values():
        for operation in item.values():
            yield operation["operationId"], operation


LISTS = [one for name, one in operations() if name.startswith("list")]
BATCHES = [one for name, one in operations() if name.startswith("batch")]


def test_whatever_is_no_list_and_no_batch_knows_json_alone():
    answered = {name for name, one in operations() if CSV in one["responses"].get("200", {}).get("content", {})}
    taken = {name for name, one in operations() if CSV in one.get("requestBody", {}).get("content", {})}
    assert answered == {one["operationId"] for one in LISTS}
    assert taken == {one["operationId"] for one in BATCHES}


@pytest.mark.parametrize("operation", LISTS, ids=lambda one: one["operationId"])
def test_a_list_is_described_as_json_first_and_as_a_file_beside_it(operation):
    answer = operation["responses"]["200"]
    assert list(answer["content"]) == ["application/json", CSV]
    assert answer["content"][CSV]["schema"]["type"] == "string"
    assert HEADERS.keys() <= answer["headers"].keys()
    for name in HEADERS:
        component = DOCUMENT["components"]["headers"][answer["headers"][name]["$ref"].rpartition("/")[2]]
        assert component["required"] is False, "JSON has it not"


@pytest.mark.parametrize("operation", BATCHES, ids=lambda one: one["operationId"])
def test_the_columns_of_a_batch_are_the_fields_of_its_items(operation):
    content = operation["requestBody"]["content"]
    assert list(content) == ["application/json", CSV]
    [header] = content[CSV]["schema"]["examples"]
    request = DOCUMENT["components"]["schemas"][content["application/json"]["schema"]["$ref"].rpartition("/")[2]]
    item = DOCUMENT["components"]["schemas"][request["properties"]["items"]["items"]["$ref"].rpartition("/")[2]]
    tops = list(dict.fromkeys(name.partition(".")[0] for name in header.split(",")))
    beside = {one["name"] for one in operation["parameters"] if one["in"] == "query"}
    assert tops == [name for name in item["properties"] if name not in beside], "what all rows have, none has"
    assert beside == set(request["properties"]) - {"items"}, "what a body of JSON has beside the items"
