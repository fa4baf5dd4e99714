"""Who runs in a DATA_DIR, as its lock tells it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.local.state import AlreadyRunning, State, describe_process, end_leftovers


@pytest.fixture
def held(tmp_path: Path) -> State:
    state = State(tmp_path)
    state.lock()
    return state


def test_the_holder_is_named_before_it_has_told_anything_of_itself(held: State) -> None:
    other = State(held.data_dir)
    assert other.is_locked_by_another()
    holder = other.find_holder()
    assert holder is not None
    assert holder.pid == os.getpid()


def test_a_number_left_in_the_file_of_a_free_lock_is_nobody(held: State) -> None:
    held.unlock()
    assert not State(held.data_dir).is_locked_by_another()
    assert State(held.data_dir).find_holder() is None


def test_one_that_still_starts_is_not_taken_for_the_one_before_it(held: State) -> None:
    held.write(supervisor={"pid": 1, "created": 0.0}, base_url="http://127.0.0.1:9")
    with pytest.raises(AlreadyRunning, match=rf"process {os.getpid()}, still starting"):
        State(held.data_dir).lock()


def test_one_that_serves_is_named_with_its_address(held: State) -> None:
    held.write(supervisor=describe_process(os.getpid()), base_url="http://127.0.0.1:8123")
    with pytest.raises(AlreadyRunning, match=rf"process {os.getpid()}, http://127.0.0.1:8123"):
        State(held.data_dir).lock()


def test_processes_that_have_their_numbers_from_before_a_reboot_are_not_ours_to_end() -> None:
    assert end_leftovers({"processes": {"gateway": {"pid": os.getpid(), "created": 1.0}}}) == []
