"""Which names a person takes for one another at a glance, and what is told of parties that have them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

from services.chassis.values.explanation import HOUSE_RULE, Explanation
from services.chassis.values.text import quote
from services.compliance.domain.parties import Party

# Letters that are drawn as plain Latin ones, each behind its code point: Greek, Cyrillic, Armenian, Cherokee, Lisu, and
# Latin ones with a stroke or without a dot. Not all that Unicode lists: those that a name could be written with.
# Source: UTS 39, Unicode Security Mechanisms, section 4 (confusables.txt)
_CODES: Final = (
    "0391A 0392B 0395E 0396Z 0397H 0399I 039AK 039CM 039DN 039FO 03A1P 03A4T 03A5Y 03A7X 03F9C 03FAM"
    " 03B1a 03B3y 03B7n 03B9i 03BAk 03BDv 03BFo 03C1p 03C4t 03C5u 03C7x 03C9w 03F2c 03F3j"
    " 0405S 0406I 0408J 0410A 0412B 0415E 0417Z 041AK 041CM 041DH 041EO 0420P 0421C 0422T 0423Y 0425X"
    " 0430a 0432b 0433r 0435e 0437z 043Ak 043Cm 043Dh 043Eo 043Fn 0440p 0441c 0442t 0443y 0445x"
    " 0455s 0456i 0458j 04AEY 04AFy 04BBh 04C0I 04CFl 0501d 051AQ 051Bq 051CW 051Dw"
    " 0555O 0578n 057Du 0570h 0581g 0585o"
    " 13A0D 13A2T 13A9Y 13AAA 13ABJ 13ACE 13B3W 13B7M 13BBH 13C0G 13C3Z 13CFb 13D9V 13DAS 13DEL 13DFC 13E2P 13E6K"
    " 13F4B A4D0B A4D1P A4D3D A4D4T A4D6G A4D7K A4D9J A4DAC A4DCZ A4DDF A4DFM A4E0N A4E1L A4E2S A4E3R A4E6V A4E7H"
    " A4EAW A4EBX A4ECY A4EEA A4F0E A4F2I A4F3O A4F4U"
    " 007Cl 1D04c 00D8O 00F8o 0110D 0111d 0131i 0141L 0142l 0237j 0251a 0261g 0269i 0280R"
)
_DRAWN_ALIKE: Final = {int(each[:4], 16): each[4:].casefold() for each in _CODES.split()}
# A letter that stands there in one case goes with the other, too: a name reads the same in capitals. Of three Greek
# letters each case is drawn as another Latin one.
_OF_OTHER_CASE: Final = {
    ord(other): drawn
    for code, drawn in _DRAWN_ALIKE.items()
    for other in (chr(code).lower(), chr(code).upper())
    if len(other) == 1 and _DRAWN_ALIKE.get(ord(other), drawn) == drawn
}
_OF_CAPITALS: Final = {ord(chr(code).lower()): drawn for code, drawn in _DRAWN_ALIKE.items() if chr(code).isupper()}
_IN_LATIN_NAMES: Final = {**_OF_OTHER_CASE, **_DRAWN_ALIKE}
_IN_OTHER_NAMES: Final = {**_IN_LATIN_NAMES, **_OF_CAPITALS}
# Letters that are drawn as an apostrophe, in category Ll or Lo: saltillo, and one of Canadian syllabics and of runes.
_DRAWN_AS_MARKS: Final = "\ua78b\ua78c\u144a\u16cc"
# What looks the same in many a typeface, once capitals are set aside.
_SAME_SHAPE: Final = (("0", "o"), ("1", "l"), ("i", "l"), ("rn", "m"), ("vv", "w"))
# Of one letter Unicode makes up to 18: so many characters are compared, and an index has room for them.
_LENGTH_MAX: Final = 200
# So many parties are told of one by one.
_NAMED_MAX: Final = 10
_RULE: Final = "PARTY_LOOK_ALIKE"


def build_skeleton(name: str) -> str:
    """The one spelling of all names that read the same, once capitals, blanks, marks and punctuation, width, accents
    and the alphabet are set aside. Never shown: it is no name. Marks are also those that Unicode calls letters
    (category Lm: an apostrophe of a language, a prime, what lengthens a letter), but for raised letters.
    """
    latin = any(unicodedata.name(letter, "").startswith("LATIN") for letter in name)
    alike = _IN_LATIN_NAMES if latin else _IN_OTHER_NAMES
    # Before and after: some of these letters are made into others that are drawn otherwise.
    drawn = unicodedata.normalize("NFKD", name.translate(alike)).translate(alike)
    plain = unicodedata.normalize("NFKD", drawn.casefold()).translate(alike)
    letters = "".join(letter for letter in plain if letter.isalnum() and not _is_mark(letter))
    for seen, taken_for in _SAME_SHAPE:
        letters = letters.replace(seen, taken_for)
    return (letters or name)[:_LENGTH_MAX]  # nothing but marks: as it is


def _is_mark(letter: str) -> bool:
    return letter in _DRAWN_AS_MARKS or unicodedata.category(letter) == "Lm"


def explain_look_alikes(party: Party, others: Sequence[Party]) -> list[Explanation]:
    """That other parties have its name, or one that reads the same: whoever passes it may take it for one of them.

    Args:
        others: Those whose names read the same, the oldest first: who adds many adds none before it.
    """
    told = []
    for each in others[:_NAMED_MAX]:
        named = (
            "the same name"
            if each.legal_name == party.legal_name
            else f"a name that reads the same: {quote(each.legal_name)}"
        )
        operands = (("party", each.party_id), ("legal name", each.legal_name), ("kind", each.kind))
        statement = f"Another party, {each.party_id}, which is there since {each.created_at:%Y-%m-%d}, has {named}."
        told.append(Explanation(statement, _RULE, operands, HOUSE_RULE))
    if (more := len(others) - _NAMED_MAX) > 0:
        statement = f"More parties that were added later have names that read the same: {more}."
        told.append(Explanation(statement, _RULE, (("parties", str(more)),), HOUSE_RULE))
    return told
