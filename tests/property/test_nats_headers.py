"""The headers of a message of NATS are read as nats-py reads them, whatever somebody published."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from services.chassis.events import streams

SOME = st.sampled_from([b"\r\n", b":", b" ", b"\t", b"\x1c", b"\x85", b"ce-id", b"Nats-Subject", "é".encode(), b"\xff"])


@given(raw=st.lists(st.one_of(SOME, st.binary(max_size=4)), max_size=20).map(b"".join))
def test_headers_are_those_that_nats_py_reads_but_for_one_without_a_name(raw: bytes) -> None:
    found = streams._Client._parse_header_lines(raw)
    assert found == {name: value for name, value in Client._parse_header_lines(raw).items() if name}
