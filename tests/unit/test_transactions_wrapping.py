"""Keys of the vault are unwrapped in their own places, by the key that wrapped them, and by no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.chassis.process.settings import ConfigurationError
from services.transactions.domain.vault_keys import Purpose, VaultKey, list_due, sort_by_use
from services.transactions.vault import KeyMissing, VaultError
from services.transactions.wrapping import Keyring
from tests.support.vault import write_keyring

OLD, NEW = b"o" * 32, b"n" * 32
SECRET = bytes(range(32))
NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)


async def test_the_first_key_of_the_file_wraps_and_each_unwraps_what_it_wrapped(tmp_path: Path) -> None:
    before = write_keyring(tmp_path, OLD)
    old = await before.read_newest()
    kept = await before.wrap(SECRET, old, "here")
    keyring = write_keyring(tmp_path, NEW, OLD)
    new = await keyring.read_newest()
    assert [new, old] == keyring.list_ids()
    wrapped = await keyring.wrap(SECRET, new, "here")
    assert [await keyring.unwrap(kept, old, "here"), await keyring.unwrap(wrapped, new, "here")] == [SECRET, SECRET]
    assert SECRET not in wrapped
    alone = write_keyring(tmp_path, NEW)
    with pytest.raises(KeyMissing, match=old):
        await alone.unwrap(kept, old, "here")
    with pytest.raises(KeyMissing, match=old):
        await alone.wrap(SECRET, old, "here")


async def test_what_was_moved_to_another_place_or_altered_is_not_unwrapped(tmp_path: Path) -> None:
    keyring, place = write_keyring(tmp_path, NEW, OLD), "SEAL|vk_1"
    new, old = keyring.list_ids()
    wrapped = await keyring.wrap(SECRET, new, place)
    altered = [bytes([*wrapped[:at], wrapped[at] ^ 1, *wrapped[at + 1 :]]) for at in range(len(wrapped))]
    tried = [(key, new, place) for key in (*altered, wrapped[:-1], wrapped[:5], b"")]
    for key, by, context in (*tried, (wrapped, new, "SEAL|vk_2"), (wrapped, new, "INDEX|vk_1"), (wrapped, old, place)):
        with pytest.raises(VaultError) as refusal:
            await keyring.unwrap(key, by, context)
        assert type(refusal.value) is VaultError


@pytest.mark.parametrize(("text", "mode", "fault"), [
    ("00" * 32, 0o600, None),
    ("00" * 32 + "\n" + "11" * 32 + "\n", 0o600, None),
    ("", 0o600, "hexadecimal"),
    ("00" * 31, 0o600, "hexadecimal"),
    ("zz" * 32, 0o600, "hexadecimal"),
    ("00" * 32, 0o644, "readable by every user"),
])  # fmt: skip
def test_a_file_of_keys_is_private_and_holds_32_bytes_a_line(
    tmp_path: Path, text: str, mode: int, fault: str | None
) -> None:
    path = tmp_path / "wrapping.key"
    path.write_text(text)
    path.chmod(mode)
    if fault is None:
        assert len(Keyring(path).list_ids()) == len(text.split())
    else:
        with pytest.raises(ConfigurationError, match=f"^WRAPPING_KEY_FILE: .*{fault}") as refusal:
            Keyring(path).list_ids()
        assert not text.strip() or text.strip() not in str(refusal.value)


def a_key(age: timedelta, wrapped_by: str = "new", purpose: Purpose = Purpose.SEAL) -> VaultKey:
    made = NOW - age
    return VaultKey(
        vault_key_id=f"vk_{age}",
        purpose=purpose,
        wrapped_key=b"",
        wrapped_by=wrapped_by,
        created_at=made,
        updated_at=made,
    )


INDEX = a_key(timedelta(days=900), "old", Purpose.INDEX)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


@pytest.mark.parametrize(("keys", "due"), [
    ([], [Purpose.INDEX, Purpose.SEAL]),
    ([INDEX], [Purpose.SEAL]),  # the index has one for good, however old
    ([INDEX, a_key(89 * DAY)], []),
    ([INDEX, a_key(90 * DAY)], [Purpose.SEAL]),
    ([INDEX, a_key(90 * DAY), a_key(DAY)], []),
    ([INDEX, a_key(HOUR, "old")], [Purpose.SEAL]),  # what the old wrapping key gave away seals no more
    ([INDEX, a_key(59 * MINUTE, "old")], []),  # and not again at each turn, while processes differ
    ([INDEX, a_key(DAY, "old"), a_key(MINUTE)], []),
    ([a_key(DAY)], [Purpose.INDEX]),
])  # fmt: skip
def test_which_keys_are_due(keys: list[VaultKey], due: list[Purpose]) -> None:
    assert list_due(keys, "new", NOW) == due


@pytest.mark.parametrize(("minutes", "first"), [
    ([100, 50, 5], 5),
    ([100, 50, 4], 50),  # nobody need know the newest yet
    ([4, 3], 4),
    ([1], 1),
])  # fmt: skip
def test_the_newest_key_that_everybody_knows_seals(minutes: list[int], first: int) -> None:
    keys = [a_key(each * MINUTE) for each in minutes]
    assert sort_by_use(keys, NOW)[0] == a_key(first * MINUTE)
    assert len(sort_by_use(keys, NOW)) == len(keys)
