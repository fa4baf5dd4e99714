"""Account numbers, unreadable at rest: AES-256-GCM, each bound to its account and to what says where money goes.

So is the token with which a provider pays an account or draws from it, which does as much as the number.

A sealed value is `version (1) | key id (4) | nonce (12) | ciphertext and tag`. Organization and bank account are
authenticated with it, and so are party, holder, routing number and type: a value that was copied to another account, or
whose row says something else by now, does not open. The key id says which of the vault's keys sealed it; those are kept
wrapped (wrapping.py), and held here unwrapped. Source: NIST SP 800-38D; reliability rule c28.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import ClassVar, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.transactions.domain.bank_accounts import BankAccount

_VERSION = b"\x01"
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_HEADER_BYTES = len(_VERSION) + _KEY_ID_BYTES + _NONCE_BYTES
_TAG_BYTES = 16


class VaultError(Exception):
    """A sealed value does not open: it, or the account it was sealed for, was altered. Says nothing of it."""


class KeyMissing(VaultError):
    """A key is needed that we do not have. That is more likely a key file of ours than somebody's deed."""


class Numbered(Protocol):
    """A bank account, or what goes to one or comes from it, and says which."""

    @property
    def bank_account_id(self) -> str: ...
    @property
    def party_id(self) -> str: ...
    @property
    def account_holder_name(self) -> str: ...
    @property
    def routing_number(self) -> str: ...
    @property
    def account_type(self) -> str: ...


@dataclass(frozen=True)
class SealedFor:
    """The account that a number is sealed for: none of it changes as long as the account is there."""

    kind: ClassVar[str] = "account number"

    org_id: str
    bank_account_id: str
    party_id: str
    account_holder_name: str
    routing_number: str
    account_type: str

    @classmethod
    def of(cls, org_id: str, account: Numbered) -> SealedFor:
        return cls(
            org_id,
            account.bank_account_id,
            account.party_id,
            account.account_holder_name,
            account.routing_number,
            account.account_type,
        )


@dataclass(frozen=True)
class TokenFor:
    """The account, by its number, that a provider's token is sealed for."""

    kind: ClassVar[str] = "provider token"

    org_id: str
    bank_account_id: str
    account_number_digest: str


class Vault:
    """Seals with the first of the keys that it holds, and opens what any of them sealed.

    It only computes, and is used inside transactions: which keys it holds says `hold`, and who asks for them elsewhere.

    Args:
        sealing: 32 bytes each.
        index: 32 bytes, from which codes come; None where it is not there.
    """

    def __init__(self, sealing: Sequence[bytes] = (), index: bytes | None = None) -> None:
        self.hold(sealing, index)

    def hold(self, sealing: Sequence[bytes], index: bytes | None) -> None:
        """From now on it has these keys and no others."""
        self._ciphers: Mapping[bytes, AESGCM] = {_build_key_id(each): AESGCM(each) for each in sealing}
        self._index = index

    def check_complete(self) -> None:
        """Raises: KeyMissing: nothing can be sealed now, or no number known again."""
        self._require_index()
        self._require_sealing()

    def seal(self, text: str, account: SealedFor | TokenFor) -> bytes:
        """Raises: KeyMissing."""
        key_id, cipher = self._require_sealing()
        header = _VERSION + key_id + os.urandom(_NONCE_BYTES)
        return header + cipher.encrypt(header[-_NONCE_BYTES:], text.encode(), _build_aad(header, account))

    def open(self, sealed: bytes, account: SealedFor | TokenFor) -> str:
        """Raises VaultError unless this was sealed by us, for this very account; KeyMissing where we cannot tell."""
        header, body = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        cipher = self._ciphers.get(header[len(_VERSION) : len(_VERSION) + _KEY_ID_BYTES])
        if header[:1] != _VERSION or len(body) < _TAG_BYTES:
            raise VaultError("the value was not sealed by a vault")
        if cipher is None:
            raise KeyMissing("the value was sealed with a key that we do not have")
        try:
            return cipher.decrypt(header[-_NONCE_BYTES:], body, _build_aad(header, account)).decode()
        except InvalidTag:
            raise VaultError("the value or its account was altered, or it belongs to another account") from None

    def digest(self, routing_number: str, account_number: str) -> str:
        """What stands for this account in what is decided on: the same for the same account at the same bank, for good.

        Raises: KeyMissing.
        """
        return self.blind(f"{routing_number}|{_spell_plainly(account_number)}")

    def is_digest(self, digest: str, routing_number: str, account_number: str) -> bool:
        """Whether it is the digest of this account. Raises: KeyMissing."""
        return hmac.compare_digest(digest, self.digest(routing_number, account_number))

    def has_same_number(self, org_id: str, account: BankAccount, other: BankAccount) -> bool | None:
        """Whether both have one number, at whatever bank; None where it does not open."""
        try:
            number = self.open(account.account_number_encrypted, SealedFor.of(org_id, account))
            return self.is_digest(other.account_number_digest, other.routing_number, number)
        except VaultError:
            return None

    def blind(self, text: str) -> str:
        """A stand-in that is equal for equal texts and says nothing about them to whoever lacks the key.

        Raises: KeyMissing.
        """
        return self._blind(text.encode())

    def blind_file(self, content: bytes) -> str:
        """The same of a file with account numbers: by a plain digest, who knows the rest of it would try them all.

        Raises: KeyMissing.
        """
        return self._blind(b"file\0" + content)

    def _blind(self, content: bytes) -> str:
        return hmac.new(self._require_index(), content, hashlib.sha256).hexdigest()

    def prove(self, text: str) -> str:
        """A code over a text that nobody makes who lacks the key: always the same. Raises: KeyMissing."""
        return self.blind(f"proof\0{text}")

    def is_proof(self, proof: str, text: str) -> bool:
        """Whether it is the code of the text. Raises: KeyMissing."""
        return hmac.compare_digest(self.prove(text).encode(), proof.encode())

    def _require_index(self) -> bytes:
        if self._index is None:
            raise KeyMissing("the key of the index is not there")
        return self._index

    def _require_sealing(self) -> tuple[bytes, AESGCM]:
        """The key that seals, behind its id."""
        for key_id, cipher in self._ciphers.items():
            return key_id, cipher
        raise KeyMissing("no key to seal with is there")


def _spell_plainly(account_number: str) -> str:
    """The same for one account however it is written: banks pad a number with zeros, and read capitals."""
    return account_number.upper().lstrip("0")


def _build_key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"realco key id\0" + key).digest()[:_KEY_ID_BYTES]


def _build_aad(header: bytes, account: SealedFor | TokenFor) -> bytes:
    # As JSON, no two accounts are spelled alike, whatever their names hold.
    return header[:-_NONCE_BYTES] + json.dumps([account.kind, *astuple(account)]).encode()
