"""Text from outside, by whatever door it came: a request, a webhook, a bank's answer, a token's claim, a header.

Every door keeps the same rules, so that what came in by one can leave by any other and be stored on the way:
Unicode without lone surrogates, without control characters, and on one line unless the door takes several.
"""

from __future__ import annotations

import re
import unicodedata

# Control characters, the separators of lines and paragraphs, what turns the direction of reading (a text then shows
# something else than it is), and halves of surrogate pairs, which no encoding of ours can carry.
_UNFIT = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_NOT_IN_LINES = re.compile(f"[{_UNFIT}]")
_NOT_IN_A_LINE = re.compile(f"[{_UNFIT}\t\n\r]")


def find_fault(text: str, *, lines: bool = False) -> str | None:
    """What is wrong with a text, in words for who sent it; None if nothing is.

    Args:
        lines: Line breaks and tabs are taken: a person explains something at length.
    """
    if lines:
        return "must not contain control characters" if _NOT_IN_LINES.search(text) else None
    return "must be one line without control characters" if _NOT_IN_A_LINE.search(text) else None


# Runs of digits as people write them, in groups or in one.
_DIGITS = re.compile(r"(?<![0-9A-Za-z])[0-9](?:[ -]?[0-9]){4,18}(?![0-9A-Za-z])")
# Visa, Mastercard, American Express, Discover: their first digits, and how many there are. Source: ISO/IEC 7812-1.
_CARD = re.compile(r"4[0-9]{12}(?:[0-9]{3})?|(?:5[1-5]|2[2-7])[0-9]{14}|3[47][0-9]{13}|6(?:011|5[0-9]{2})[0-9]{12}")
_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]){11,30}(?![0-9A-Za-z])")


def find_payment_number(text: str) -> str | None:
    """Why a text that people write for people must not be kept: it has what money can be drawn with.

    Found are cards, IBANs, and routing numbers of the ABA together with another number. It is a guess: a number that
    only looks like one is refused, too, and one that is spelled strangely is not found.
    """
    numbers = [re.sub("[ -]", "", found) for found in _DIGITS.findall(text)]
    if any(_CARD.fullmatch(number) and _has_luhn_digit(number) for number in numbers):
        return "must not contain a card number"
    ibans = (found.replace(" ", "") for found in _IBAN.findall(text))
    is_routed = len(numbers) > 1 and any(has_aba_digit(number) for number in numbers)
    if is_routed or any(_has_iban_digits(iban) for iban in ibans):
        return "must not contain a bank account number"
    return None


def _has_luhn_digit(number: str) -> bool:
    """Source: ISO/IEC 7812-1, annex B."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in number[-2::-2])
    return (sum(map(int, number[-1::-2])) + sum(doubled)) % 10 == 0


def _has_iban_digits(iban: str) -> bool:
    """Source: ISO 13616-1, 6."""
    return int("".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])) % 97 == 1


def has_aba_digit(routing_number: str) -> bool:
    """Whether nine digits, weighted 3-7-1, sum to a multiple of ten. Source: ABA Routing Number Policy."""
    if len(routing_number) != 9 or not (routing_number.isascii() and routing_number.isdigit()):
        return False
    total = sum(weight * int(digit) for weight, digit in zip((3, 7, 1) * 3, routing_number, strict=True))
    return total > 0 and total % 10 == 0


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


def normalize_person(name: str) -> str:
    """The one spelling in which persons are kept and compared: `Ann@Example.org` and `ann@example.org` are one.

    What nobody sees (a zero-width space, a soft hyphen) makes no other person.

    Source: The Unicode Standard, section 3.13, D146 (caseless matching of compatible characters), and 5.21 (ignorable)
    """
    seen = "".join(letter for letter in name if unicodedata.category(letter) != "Cf" and letter not in _IGNORABLE)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", seen).casefold())
    return unicodedata.normalize("NFKC", folded.casefold()).strip()


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
    """Words for people out of a document from outside, of which nothing depends: one line, what is not fit left out,
    cut at `length_max` characters. Empty where there is no text."""
    if not isinstance(value, str):
        return ""
    return _NOT_IN_A_LINE.sub("", re.sub(r"[\t\n\r\u2028\u2029]+", " ", value))[:length_max].strip()
