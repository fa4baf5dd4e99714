"""Numbers that money is drawn with, in texts that people write: a card's, an IBAN, a routing number with an account's.

It is a guess, made for accidents: a number that only looks like one is refused, too, and one that is spelled strangely
is not found. A number counts only as it is printed: digits in one, or in groups of four and more. That leaves dates,
phone numbers and amounts alone, which have shorter groups.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# The shortest of them all, an IBAN of the Netherlands, has twelve digits. By far the most texts have fewer.
_ENOUGH = re.compile(r"(?:\D*\d){12}")
_UUID = re.compile(r"(?<![0-9A-Z])[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}(?![0-9A-Z])")
# What begins with a plus sign is a phone number (ITU-T E.164).
_DIGITS = re.compile(r"(?<![0-9A-Z+])[0-9]+(?:[ .\u2010-\u2015-][0-9]+)*(?![0-9A-Z])")
_GROUP_MIN = 4
_DIGITS_MAX = 19  # ISO/IEC 7812-1
# By the first digits and how many there are: Visa, Mastercard, JCB, Discover, UnionPay, American Express, Diners Club.
# Visas of 13 digits are not issued any more, and phone numbers and bar codes look like them.
# Source: ISO/IEC 7812-1, and the ranges that the brands publish.
_CARD = re.compile(
    r"4[0-9]{15}"
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12}"
    r"|6(?:011|4[4-9][0-9]|5[0-9]{2})[0-9]{12}"
    r"|62[0-9]{14,17}"
    r"|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[689][0-9])[0-9]{11}"
)
# The districts of the Federal Reserve begin a routing number. Source: ABA Routing Number Policy.
_ROUTING = re.compile(r"(?<![0-9A-Z+])(?:0[0-9]|1[0-2]|2[1-9]|3[0-2]|6[1-9]|7[0-2]|80)[0-9]{7}(?![0-9A-Z])")
# Postcodes are shorter.
_ACCOUNT = re.compile(r"[0-9]{6,17}")
_DAY = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")
_IBAN_START = re.compile(r"(?<![0-9A-Z])[A-Z]{2}[0-9]{2}")
# How many characters an IBAN of each country has: no other begins like one. Source: the IBAN Registry of ISO 13616-2.
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        "([A-Z]{2})([0-9]{2})",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
        "YE30",
    )
}


def find_payment_number(text: str) -> str | None:
    """Why a text that people write must not be kept, in words for who sent it; None if nothing speaks against it."""
    if not _ENOUGH.match(text):
        return None
    if fault := find_card_or_iban(text):
        return fault
    spelled = _spell(text)
    for bank in set(filter(has_aba_digit, _ROUTING.findall(spelled))):
        others = _list_numbers(spelled.replace(bank, ";"))
        if any(_ACCOUNT.fullmatch(number) and not _DAY.fullmatch(number) for number in others):
            return "must not contain a bank account number"
    return None


def find_card_or_iban(text: str) -> str | None:
    """The same, of numbers that say by themselves what they are.

    An id of another system is asked no more than this: many are several numbers in a row, and some of those look like a
    bank with an account by chance. One with all the marks of a card is refused even so: neither who reads it nor who
    looks for cards in a copy of the database can tell it from one.
    """
    if not _ENOUGH.match(text):
        return None
    spelled = _spell(text)
    if any(_CARD.fullmatch(number) and _has_luhn_digit(number) for number in _list_numbers(spelled)):
        return "must not contain a card number"
    return "must not contain a bank account number" if any(map(_has_iban_digits, _list_ibans(spelled))) else None


def _spell(text: str) -> str:
    """The text in capitals, with the plain digits and spaces for those that look like them, and without UUIDs."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _UUID.sub(";", plain.upper())


def _list_numbers(text: str) -> Iterator[str]:
    """Each number of at least `_GROUP_MIN` digits: of one group, and of groups that follow one another. After a card
    stands its date, and before an account its bank."""
    for run in _DIGITS.findall(text):
        groups = re.split("[^0-9]", run)
        for start in range(len(groups)):
            number = ""
            for group in groups[start:]:
                number += group
                if len(group) < _GROUP_MIN or len(number) > _DIGITS_MAX:
                    break
                yield number


def _list_ibans(text: str) -> Iterator[str]:
    for start in _IBAN_START.finditer(text):
        if length := _IBAN_LENGTHS.get(start[0][:2]):
            rest = re.compile(rf"(?:[ .-]?[0-9A-Z]){{{length - 4}}}(?![0-9A-Z])").match(text, start.end())
            if rest:
                yield start[0] + re.sub("[ .-]", "", rest[0])


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
