"""A folder that was opened is used, whatever somebody puts in its place meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.transactions.providers.ach_file.folders import Folder, open_folder


class Swapped:
    """A folder of ours, and one of somebody else's to which its name leads now."""

    def __init__(self, shared_path: Path, theirs: Path, shared: Folder, own: Folder) -> None:
        self.path, self.theirs, self.shared, self.own = shared_path, theirs, shared, own

    def list_ours(self) -> list[str]:
        return sorted(each.name for each in (self.path / "moved").iterdir())

    def list_theirs(self) -> list[str]:
        return sorted(each.name for each in self.theirs.iterdir())


@pytest.fixture
def swapped(tmp_path: Path) -> Iterator[Swapped]:
    path, theirs = tmp_path / "shared", tmp_path / "theirs"
    path.mkdir()
    theirs.mkdir()
    (theirs / "settings").write_bytes(b"secret")
    with open_folder(path) as shared, shared.open_own("own") as own:
        own.write("file", b"ours")
        (path / "own").rename(path / "moved")
        (path / "own").symlink_to(theirs)
        yield Swapped(path, theirs, shared, own)


def test_nothing_is_written_elsewhere(swapped: Swapped) -> None:
    swapped.own.write("more", b"ours as well")
    assert (swapped.list_ours(), swapped.list_theirs()) == (["file", "more"], ["settings"])


def test_nothing_is_put_elsewhere(swapped: Swapped) -> None:
    (swapped.path / "settings").write_bytes(b"planted")
    swapped.shared.put_away("settings", swapped.own)
    assert (swapped.list_ours(), swapped.list_theirs()) == (["file", "settings"], ["settings"])
    assert (swapped.theirs / "settings").read_bytes() == b"secret"


def test_nothing_of_elsewhere_is_read_listed_or_moved(swapped: Swapped) -> None:
    assert swapped.own.list_files() == ["file"]
    assert swapped.own.is_gone("settings")
    for use in (swapped.own.read_whole, lambda name: swapped.own.put_away(name, swapped.shared)):
        with pytest.raises(FileNotFoundError):
            use("settings")
    swapped.own.move("settings", swapped.shared)
    assert swapped.list_theirs() == ["settings"]


def test_a_link_in_its_place_is_set_aside_when_it_is_opened_again(swapped: Swapped) -> None:
    with swapped.shared.open_own("own") as again:
        again.write("file", b"ours")
    assert swapped.list_theirs() == ["settings"]
    assert (swapped.path / "own" / "file").read_bytes() == b"ours"
    [aside] = swapped.path.glob("own.*")
    assert aside.is_symlink()


def test_a_file_is_put_away_beside_those_of_the_same_name(tmp_path: Path) -> None:
    with open_folder(tmp_path) as shared, shared.open_own("kept") as kept:
        for content in (b"1", b"2", b"3"):
            (tmp_path / "a").write_bytes(content)
            shared.put_away("a", kept)
        assert kept.list_names() == ["a", "a.2", "a.3"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_folder(tmp_path / "none")


def test_what_is_no_file_is_not_read_and_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"1")
    with open_folder(tmp_path) as shared:
        before = len(os.listdir("/proc/self/fd"))
        assert [shared.read_whole(name) for name in ("file", "folder", "link")] == [b"1", None, None]
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["file", ".file.part"])
def test_a_folder_in_the_place_of_a_file_keeps_none_from_being_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "inside").mkdir(parents=True)
    with open_folder(tmp_path) as shared:
        shared.write("file", b"ours")
    assert (tmp_path / "file").read_bytes() == b"ours"
    [aside] = tmp_path.glob(f"{name}.*")
    assert aside.is_dir()
