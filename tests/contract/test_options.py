"""The options and rules that the contracts add to protobuf: their numbers are private, used once, and written down."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).parents[2]
OURS = range(50900, 51000)


def list_extensions() -> list[tuple[str, int, str]]:
    """(what is extended, number, name) of every extension in the contracts."""
    image = FileDescriptorSet.FromString((files("realco") / "descriptors.binpb").read_bytes())
    return [
        (extension.extendee.lstrip("."), extension.number, extension.name)
        for file in image.file
        if file.package.startswith("realco.")
        for extension in (*file.extension, *(nested for message in file.message_type for nested in message.extension))
    ]


def test_the_number_of_an_option_is_private_and_used_once():
    numbers = Counter(number for _, number, _ in list_extensions())
    assert numbers
    assert [number for number, times in numbers.items() if times > 1 or number not in OURS] == []


def test_the_table_of_numbers_lists_every_option():
    table = (ROOT / "docs" / "versioning.md").read_text().partition("## Numbers of our options")[2]
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", table, re.M)
    written = [
        (extended, int(number), name) for extended, cell in rows for number, name in re.findall(r"(\d+) `(\w+)`", cell)
    ]
    assert sorted(written) == sorted(list_extensions())
