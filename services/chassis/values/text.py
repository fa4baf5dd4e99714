"""Text from outside, by whatever door it came: a request, a webhook, a bank's answer, a token's claim, a header.

Every door keeps the same rules, so that what came in by one can leave by any other and be stored on the way:
Unicode without lone surrogates, without control characters, with something to see if it is not empty, and on one line
unless the door takes several. What people send in requests, and others decide by, looks like no other text besides.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Control characters, the separators of lines and paragraphs, what turns the direction of reading (a text then shows
# something else than it is), and halves of surrogate pairs, which no encoding of ours can carry.
_UNFIT = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_NOT_IN_LINES = re.compile(f"[{_UNFIT}]")
_NOT_IN_A_LINE = re.compile(f"[{_UNFIT}\t\n\r]")
# In the names of letters that are, or could be taken for, the marks around a quotation.
_MARKS = re.compile(
    "^(?!.*SINGLE).*(QUOTATION MARK|(DOUBLE|TRIPLE|QUADRUPLE) PRIME|DOUBLE (ACUTE|APOSTROPHE|GRAVE)|GERSHAYIM|DITTO)"
)
# Two single ones beside each other look like a double one.
_SINGLES = re.compile(
    "^(?!COMBINING|.* PRECEDED BY).*(APOSTROPHE|PRIME|SINGLE .*QUOTATION MARK|(TURNED|REVERSED) COMMA|SALTILLO|GERESH"
    "|(GRAVE|ACUTE) ACCENT|MODIFIER LETTER .*(COMMA|ACUTE|GRAVE|VERTICAL LINE)|GREEK (KORONIS|PSILI|DASIA|OXIA|VARIA))"
)
_PAIRS = re.compile("'{2,}")


def find_fault(text: str, *, lines: bool = False) -> str | None:
    """What is wrong with a text, in words for who sent it; None if nothing is.

    Args:
        lines: Line breaks and tabs are taken: a person explains something at length.
    """
    if lines and _NOT_IN_LINES.search(text):
        return "must not contain control characters"
    if not lines and _NOT_IN_A_LINE.search(text):
        return "must be one line without control characters"
    if text and not any(map(_is_seen, text)):
        return "must contain a character that can be seen"
    return None


def find_look_alike(line: str) -> str | None:
    """What lets a text of one line look like another one, in words for who sent it; None if nothing does.

    People compare what they read: what was asked for twice, or under which name somebody is paid. So there is one plain
    blank between words, nothing that cannot be seen, and one way to write an accent.
    """
    if not has_plain_blanks(line):
        return "must have one plain blank between words, and none at its ends"
    if line.isascii():
        return None
    unseen = next(filter(_is_hidden, line), None)
    if unseen is not None:
        return f"must not contain U+{ord(unseen):04X}, which cannot be seen"
    return None if unicodedata.is_normalized("NFC", line) else "must be in Unicode's normal form C (NFC)"


def read_as_line(text: str) -> str:
    """A text of several lines as one: a plain blank between its words, and nothing that cannot be seen."""
    return " ".join("".join(" " if letter.isspace() else letter for letter in text if not _is_hidden(letter)).split())


def quote(text: str) -> str:
    """Somebody's words as a line in quotation marks, which they cannot end: what follows is ours."""
    line = read_as_line(text)
    within = "".join("'" if _MARKS.search(unicodedata.name(letter, "")) else letter for letter in line)
    singles = "".join("'" if _SINGLES.search(unicodedata.name(letter, "")) else letter for letter in within)
    for pair in reversed(list(_PAIRS.finditer(singles))):
        within = f"{within[: pair.start()]}'{within[pair.end() :]}"
    return f"“{within}”"


def has_plain_blanks(line: str) -> bool:
    """Whether its words have one blank between them, the one of ASCII, and there is none at its ends."""
    return " ".join(line.split()) == line


def read_text(value: object, length_max: int, *, empty: bool = False) -> str:
    """The value of a document from outside, as a text of one line.

    Args:
        length_max: In characters.
        empty: An empty text is one, too.

    Raises:
        ValueError: it is none, or too long, or empty, or not fit to be stored; the message repeats nothing of it.
    """
    if not isinstance(value, str) or len(value) > length_max or not (value or empty):
        raise ValueError(f"not a text of {0 if empty else 1} to {length_max} characters")
    if fault := find_fault(value):
        raise ValueError(fault)
    return value


# Default_Ignorable_Code_Point, but for format characters, which have a category of their own.
_IGNORABLE = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, *range(0xFE00, 0xFE10), 0xFFA0))
) | frozenset(map(chr, range(0xE0000, 0xE1000)))
# Of another category, and blank all the same: the Braille pattern without dots.
_BLANKS = _IGNORABLE | {"\u2800"}


def _is_seen(letter: str) -> bool:
    return not (letter.isspace() or _is_hidden(letter))


def _is_hidden(letter: str) -> bool:
    return letter in _BLANKS or unicodedata.category(letter) == "Cf"


@lru_cache(4096)
def normalize_person(name: str) -> str:
    """The one spelling in which persons are kept and compared: `Ann@Example.org` and `ann@example.org` are one.

    What nobody sees (a zero-width space, a soft hyphen, a blank more) makes no other person.

    Source: The Unicode Standard, section 3.13, D146 (caseless matching of compatible characters), and 5.21 (ignorable)
    """
    seen = "".join(letter for letter in name if not _is_hidden(letter))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", seen).casefold())
    return " ".join(unicodedata.normalize("NFKC", folded.casefold()).split())


# What begins like this is a machine: a service of ours, or a program that signs in with a key of its own.
SERVICE_PREFIX = "service:"
API_KEY_PREFIX = "key:"
MACHINE_PREFIXES = (SERVICE_PREFIX, API_KEY_PREFIX)
_NAME_BYTES_MAX = 255


def connection_name(process: str) -> str:
    """What the certificate of a process of ours names it as, wherever it runs. `.internal` is nobody's in public."""
    return f"{process}.realco.internal"


def is_name(text: str) -> bool:
    """Whether it can name somebody: one line, neither too long nor with blanks at its ends."""
    return 0 < len(text.encode("utf-8", "replace")) <= _NAME_BYTES_MAX and not find_fault(text) and text == text.strip()


def is_person(name: str) -> bool:
    """Whether it can name a person, also in the one spelling of persons: there a name can be much longer, or empty, or
    turn out to be a machine's."""
    spelled = normalize_person(name)
    return is_name(name) and is_name(spelled) and not spelled.startswith(MACHINE_PREFIXES)


def clean_text(value: object, length_max: int) -> str:
    """Words for people out of a document from outside, of which nothing depends: one line, what is not fit or cannot
    be seen left out, cut at `length_max` characters. Empty where there is no text."""
    if not isinstance(value, str):
        return ""
    line = _NOT_IN_A_LINE.sub("", re.sub(r"[\t\n\r\u2028\u2029]+", " ", value))
    seen = "".join(letter for letter in unicodedata.normalize("NFC", line) if not _is_hidden(letter))
    return " ".join(seen.split())[:length_max].strip()
