"""What a service writes and later acts upon carries a seal: who has only a role of its database can make none.

A seal is `form (1) | key id (4) | HMAC-SHA256` over the form, the place (the table) and the values, under a key that
the database never sees. A row that was written or changed past the service, from a stolen login, a backup or a console,
does not bear the seal of what it says, and nothing is done upon it.

The form says which columns the seal covers: what is added after a release is covered by a later form. A row has the
first form that covers all that it holds: those that were there before keep their seals, and as long as nothing is
written into the new columns, the release before can read every row.

Where a seal would be asked for too late, the database itself asks for a proof: a row is written with the digest of a
text that only the service can make, and a trigger refuses the step to whoever does not give that text.

A text that may be long is covered by its digest, which is a column of its own: whoever reads the row without the text
knows that the rest of it is ours, and whoever reads it with the text compares the two.

`DATA_KEY_FILE` holds the keys: 32 bytes in hexadecimal a line. The first one is used; those after it are older ones,
whose seals still count.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import orjson
import sqlalchemy as sa

from services.chassis.data.reads import Source
from services.chassis.data.transaction import Tx
from services.chassis.process.settings import ConfigurationError, read_private_file
from services.chassis.process.telemetry import ROWS_NOT_SEALED, log
from services.chassis.values.errors import AnswerWithheld

R = TypeVar("R")
V = TypeVar("V")

_SEALED, _SEAL, _DIGESTS = "sealed", "seal", "digests"
_ON_CONNECTION = "realco_seals"
_UNREAD = object()
_REFUSED_MAX = 1_000
_FORM_BYTES = 1
_KEY_ID_BYTES = 4
_PROOF = bytes(_FORM_BYTES)  # a proof has no form
_KEY = re.compile(r"[0-9a-fA-F]{64}")


class NotSealed(Exception):
    """A row says what this service did not write. It is named, and none of its values is.

    Args:
        place: Its table.
        row: Which of its rows, by its key.
    """

    def __init__(self, place: str, row: str) -> None:
        self.row = f"{place} {row}"
        super().__init__(f"{self.row} was not written by this service, or with a key that it does not have")


def build_withheld(error: NotSealed) -> AnswerWithheld:
    """What somebody is told of a row that is not ours, where others are answered."""
    return AnswerWithheld(
        f"{error}. An operator has to put it right. Look whether it was done before you ask for it anew.", row=error.row
    )


def read_keys(path: Path, setting: str) -> tuple[bytes, ...]:
    """The keys in a file, the one in use first. `setting` is what names it to us.

    Raises:
        ConfigurationError: the file is absent, not private, or holds something else.
    """
    lines = read_private_file(path, setting).decode("ascii", "replace").split()
    if not lines or not all(_KEY.fullmatch(line) for line in lines):
        raise ConfigurationError(f"{setting}: must hold 32 bytes in hexadecimal a line")
    return tuple(map(bytes.fromhex, lines))


class Seals:
    """Makes seals with the first of the keys, and knows those of each.

    Args:
        keys: 32 bytes each.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        derived = [hashlib.sha256(b"realco seal\0" + key).digest() for key in keys]
        self._keys: Mapping[bytes, bytes] = {hashlib.sha256(key).digest()[:_KEY_ID_BYTES]: key for key in derived}
        self._current = next(iter(self._keys))
        # By table, the keys of rows that were refused, until they are found to be sealed or gone (audit.py).
        self.refused: dict[str, set[tuple[Any, ...]]] = {}

    def make(self, place: str, *values: Any, form: int = 1) -> bytes:
        """The seal of these values: texts, numbers, times, bytes, None, or lists of them."""
        return self._make(form, _spell_all(place, _in_utc(values)))

    def are_sealed(self, seal: bytes | None, place: str, *values: Any, form: int = 1) -> bool:
        """Whether the seal is of these values."""
        return self._is_of(seal, form, _spell_all(place, values))

    def check(self, seal: bytes | None, place: str, row: str, *values: Any, form: int = 1) -> None:
        """Returns if the seal is of these values.

        Args:
            row: What to call the row, for whoever reads the log.

        Raises:
            NotSealed
        """
        if not self.are_sealed(seal, place, *values, form=form):
            self.refuse(place, row)

    def make_spelled(self, place: str, text: bytes, *, form: int = 1) -> bytes:
        """The seal of values that the caller has spelled, where there are many rows and little time."""
        return self._make(form, _mark_spelled(place, text))

    def check_spelled(self, seal: bytes | None, place: str, row: str, text: bytes, *, form: int = 1) -> None:
        """`check` for what `make_spelled` sealed."""
        if not self._is_of(seal, form, _mark_spelled(place, text)):
            self.refuse(place, row)

    def refuse(self, place: str, row: str) -> NoReturn:
        """Counts and logs a row that is not ours. Raises: NotSealed."""
        ROWS_NOT_SEALED.labels(place).inc()
        log.error("row_not_sealed", place=place, row=row)
        raise NotSealed(place, row)

    def digest_proof(self, place: str, *values: Any) -> bytes:
        """What a row is written with that a later step must prove: `key id (4) | SHA-256 of the proof`."""
        return self._current + hashlib.sha256(self._prove(self._current, place, values)).digest()

    def prove(self, digest: bytes | None, place: str, *values: Any) -> bytes:
        """The proof with this digest, if the row was written by this service; else one that the database refuses."""
        key_id = (digest or b"")[:_KEY_ID_BYTES]
        return self._prove(key_id if key_id in self._keys else self._current, place, values)

    def prove_to(self, digest: bytes | None, place: str, row: str, *values: Any) -> bytes:
        """`prove`, where the row's own seal is not asked for.

        Raises: NotSealed: the digest is not of this service's making.
        """
        proof = self.prove(digest, place, *values)
        if hashlib.sha256(proof).digest() != (digest or b"")[_KEY_ID_BYTES:]:
            self.refuse(place, row)
        return proof

    def list_session_proofs(self) -> list[str]:
        """What a session of the service begins with, by each of the keys: the one in use first (session_proof.py)."""
        return [self._prove(key_id, "session", ()).hex() for key_id in self._keys]

    def list_codes(self, place: str, *values: Any) -> list[bytes]:
        """What nobody else can foretell of these values, under each of the keys: the one in use first."""
        return [self._prove(key_id, place, values) for key_id in self._keys]

    def _prove(self, key_id: bytes, place: str, values: Sequence[Any]) -> bytes:
        return self._digest(_PROOF + key_id, _spell_all(f"proof:{place}", values))

    def _make(self, form: int, text: bytes) -> bytes:
        head = form.to_bytes(_FORM_BYTES) + self._current
        return head + self._digest(head, text)

    def _is_of(self, seal: bytes | None, form: int, text: bytes) -> bool:
        head = (seal or b"")[: _FORM_BYTES + _KEY_ID_BYTES]
        if head[:_FORM_BYTES] != form.to_bytes(_FORM_BYTES) or head[_FORM_BYTES:] not in self._keys:
            return False
        return hmac.compare_digest(seal or b"", head + self._digest(head, text))

    def _digest(self, head: bytes, text: bytes) -> bytes:
        return hmac.digest(self._keys[head[_FORM_BYTES:]], head[:_FORM_BYTES] + text, "sha256")


def _spell_all(place: str, values: Iterable[Any]) -> bytes:
    # As JSON, no two rows are spelled alike, whatever their texts hold.
    return orjson.dumps([place, *values], default=_spell, option=orjson.OPT_SORT_KEYS)


def _mark_spelled(place: str, text: bytes) -> bytes:
    # What `_spell_all` makes begins with a bracket, so none of its seals is one of these.
    return place.encode() + b"\0" + text


def _in_utc(values: Iterable[Any]) -> list[Any]:
    """Moments as they come back from the database, whatever zone they are given in."""
    return [each.astimezone(UTC) if isinstance(each, datetime) and each.tzinfo is not UTC else each for each in values]


def _spell(value: object) -> Any:
    if isinstance(value, Decimal):  # as the whole number that it is where it is one, as some write it
        whole = value == value.to_integral_value()
        return orjson.Fragment(b"%d" % int(value)) if whole else format(value.normalize(), "f")
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"no seal covers a {type(value).__name__}")


def bind_seals(connection: Source, seals: Seals) -> None:
    """What the connection, or the reader, is used for is sealed with these."""
    connection.info[_ON_CONNECTION] = seals


def seals_of(tx: Source) -> Seals:
    """What the service whose transaction this is seals its rows with."""
    seals: Seals = tx.info[_ON_CONNECTION]
    return seals


def sealed(
    *columns: str, later: Sequence[Sequence[str]] = (), digests: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The `info` of a table that has a column `seal`: what its rows are sealed with, their key among it.

    Args:
        columns: What the first form covers. A form that a release has never changes: a test keeps each.
        later: What each later form covers besides. These columns may be null, and are until they are written.
        digests: Of columns that hold a text, the one that says its SHA-256 in hex, which is covered in its place.
    """
    forms = [columns]
    for added in later:
        forms.append((*forms[-1], *added))
    return {_SEALED: tuple(forms), _DIGESTS: digests or {}}


def seal_whole(table: sa.Table, *later: Sequence[str]) -> None:
    """Has the seals of a table cover all of its columns, and each later form the columns that it names besides."""
    not_first = {_SEAL, *chain.from_iterable(later)}
    first = (column.name for column in table.columns if column.name not in not_first)
    table.info.update(sealed(*first, later=later))


def list_sealed_tables(metadata: sa.MetaData) -> list[sa.Table]:
    return [table for table in metadata.sorted_tables if is_sealed(table)]


def is_sealed(table: sa.Table) -> bool:
    """Whether its rows bear a seal of what `sealed` names."""
    return _SEALED in table.info


def is_covered(table: sa.Table, column: str) -> bool:
    """Whether the seal of a row says what the column holds."""
    return column in table.info[_SEALED][-1] or column in list_digested(table)


def list_digested(table: sa.Table) -> Collection[str]:
    """The columns whose text may be long: a row is read without it where nobody needs it."""
    return table.info[_DIGESTS].keys()


async def seal_rows(tx: Tx, table: sa.Table, rows: Iterable[Any]) -> None:
    """Seals rows that this transaction has just written, as they came back from the database.

    Whoever changes a row has checked it before: a seal says that this service wrote all of it.
    """
    key, seals = list(table.primary_key.columns), seals_of(tx)
    made = [
        {f"the_{column.name}": getattr(row, column.name) for column in key}
        | {"made": _make(seals, table, partial(getattr, row))}
        for row in rows
    ]
    if made:
        ours = (column == sa.bindparam(f"the_{column.name}") for column in key)
        await tx.execute(sa.update(table).where(*ours).values(seal=sa.bindparam("made")), made)


def seal_of(tx: Source, table: sa.Table, values: Mapping[str, Any]) -> bytes:
    """The seal of a row that is about to be written, where the caller knows every sealed value."""
    return _make(seals_of(tx), table, values.__getitem__)


def check_row(tx: Source, table: sa.Table, row: R) -> R:
    """The row, if it says what this service wrote. Raises: NotSealed."""
    return check_read_row(seals_of(tx), table, row)


def check_read_row(seals: Seals, table: sa.Table, row: R) -> R:
    """`check_row` for what the driver alone has read."""
    if not _is_sealed(seals, table, row):
        refuse_row(seals, table, key_of(table, row))
    return row


def refuse_row(seals: Seals, table: sa.Table, key: tuple[Any, ...]) -> NoReturn:
    """Counts the row with this key as one that is not ours, and remembers and logs it the first time.

    However many there are, and however often somebody comes upon them, the log does not grow with them.

    Raises: NotSealed.
    """
    refused = seals.refused.setdefault(table.name, set())
    row = " ".join(map(str, key))
    if key in refused or len(refused) == _REFUSED_MAX:
        ROWS_NOT_SEALED.labels(table.name).inc()
        raise NotSealed(table.name, row)
    refused.add(key)
    seals.refuse(table.name, row)


def is_row_sealed(tx: Source, table: sa.Table, row: Any) -> bool:
    """Whether the row says what this service wrote, without a word in the log."""
    return _is_sealed(seals_of(tx), table, row)


def _is_sealed(seals: Seals, table: sa.Table, row: Any) -> bool:
    form, values = _list_sealed(table, _getter_of(table.info[_SEALED][-1])(row))
    if not all(_says(row, *names) for names in table.info[_DIGESTS].items()):
        return False
    try:
        return seals.are_sealed(getattr(row, _SEAL), table.name, *values, form=form)
    except orjson.JSONEncodeError:  # no seal of ours is of what cannot be spelled
        return False


def _says(row: Any, name: str, digest_name: str) -> bool:
    """Whether the text is the one with the digest, where the row was read with it."""
    text: Any = getattr(row, name, _UNREAD)
    return text is _UNREAD or (None if text is None else _digest_text(text)) == getattr(row, digest_name)


def _digest_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(table: sa.Table, row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, column.name) for column in table.primary_key.columns)


def check_rows(tx: Source, table: sa.Table, rows: Iterable[R]) -> list[R]:
    """All of the rows. Raises NotSealed where one says what this service did not write."""
    return [check_row(tx, table, row) for row in rows]


def keep_sealed(tx: Source, table: sa.Table, rows: Iterable[R]) -> list[R]:
    """Those of the rows that say what this service wrote. The others are in the log, and wait for an operator."""
    return keep_readable(rows, partial(check_row, tx, table))


def keep_readable(rows: Iterable[R], read: Callable[[R], V]) -> list[V]:
    """What `read` makes of each row, leaving out those for which it raises NotSealed."""
    kept = []
    for row in rows:
        with suppress(NotSealed):
            kept.append(read(row))
    return kept


def _make(seals: Seals, table: sa.Table, get: Callable[[str], Any]) -> bytes:
    form, values = _list_sealed(table, map(get, table.info[_SEALED][-1]))
    return seals.make(table.name, *values, form=form)


@cache
def _getter_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*names)  # there are several: each row has an organization and a key of its own


def _list_sealed(table: sa.Table, covered: Iterable[Any]) -> tuple[int, list[Any]]:
    """The first form that covers all that the row holds, and what it covers.

    Args:
        covered: What the row holds of what the last form covers.
    """
    forms: Sequence[Sequence[str]] = table.info[_SEALED]
    values, form = list(covered), len(forms)
    while form > 1 and all(value is None for value in values[len(forms[form - 2]) :]):
        form -= 1
        del values[len(forms[form - 1]) :]
    return form, values
