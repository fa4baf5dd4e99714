"""Which names read the same at a glance."""

from __future__ import annotations

import pytest

from services.compliance.domain.names import build_skeleton


@pytest.mark.parametrize(
    ("name", "is_alike"),
    [
        ("Acme Contractors LLC", True),
        ("ACME  contractors, L.L.C.", True),
        ("Acme\u2010Contractors LLC", True),
        ("\u0410cme Contractors LLC", True),  # Cyrillic
        ("Acme Contractors LL\u0421", True),
        ("Acme C\u03bfntractors LLC", True),  # Greek
        ("\ua4eecme Contractors LLC", True),  # Lisu
        ("Acme Contractors \u13de\u13deC", True),  # Cherokee
        ("\uff21cme Contractors LLC", True),  # of full width
        ("Acme Contractors \U0001d5ab\U0001d5ab\U0001d5a2", True),  # of mathematics
        ("Acme Contractors LL\u216d", True),  # a numeral
        ("Acme Contractors LLC\u0332", True),  # a mark below
        ("\u00c1cme Contractors LLC", True),
        ("A\u03f2me \u03f9ontractors ||C", True),  # lunate sigmas, and strokes
        ("A\u1d04me Contractors LLC", True),
        ("Acme C0ntractors 1lc", True),
        ("Acrne Contractors LLC", True),
        ("Acme\u02bb Contractors LLC\u02b9", True),  # marks that Unicode calls letters
        ("Ac\u0640me Contra\u30fcctors\ua78c LLC\u02bc", True),
        ("Acme Contractor\u02e2 LLC", True),  # a small raised s is an s
        ("Acme Contractor LLC", False),
        ("Acne Contractors LLC", False),
        ("Acme Contractors", False),
        ("", False),
    ],
)
def test_a_name_reads_like_another_whatever_letters_it_is_written_with(name: str, is_alike: bool) -> None:
    assert (build_skeleton(name) == build_skeleton("Acme Contractors LLC")) is is_alike


@pytest.mark.parametrize(
    "name",
    ["Филипп Гагарин", "Ольга Петрова", "Νίκη Παππά", "Ελένη Χυτήρη", "Հայկ Օհանյան", "Иван Acme", "Łukasz Øberg"],
)
def test_a_name_reads_the_same_in_capitals(name: str) -> None:
    assert build_skeleton(name) == build_skeleton(name.upper()) == build_skeleton(name.lower())


def test_every_letter_is_alike_in_both_its_cases() -> None:
    names = [f"\u674e{letter}" for letter in map(chr, range(0x20000)) if letter.isalpha()]
    other = [each for each in names if len({build_skeleton(name) for name in (each, each.upper(), each.lower())}) > 1]
    assert other == []


def test_other_names_are_others_in_any_alphabet_and_marks_alone_are_compared_as_they_are() -> None:
    names = ["李明", "李鸣", "Иван Петров", "Иван Петровский", "!!!", "???", "\u02bc\u02bc", "\u30fc"]
    assert len({build_skeleton(name) for name in names}) == len(names)


def test_however_long_a_name_is_an_index_has_room_for_it() -> None:
    assert len(build_skeleton("\ufdfa" * 200).encode()) <= 800  # a row of an index takes 2,704 bytes
