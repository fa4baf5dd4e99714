"""Who may say who people are: the issuers of tokens, and how each of them writes what we need to know.

The file ISSUERS_FILE is JSON, a list with an object for each issuer; `Issuer` says what it may hold, and
docs/sign-in.md shows it for well-known ones.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator
from pydantic_core import from_json

from services.chassis.calls.auth import ROLES, is_organization
from services.chassis.process.settings import ConfigurationError, read_json_file
from services.chassis.values.errors import Unauthenticated
from services.chassis.values.text import MACHINE_PREFIXES, is_name, normalize_person

_SETTING = "ISSUERS_FILE"
# Longer than any date that a token means, and small enough to reckon with.
_SECONDS_MAX = 1 << 40

Text = Annotated[str, Field(min_length=1, max_length=1024)]
# A claim's name; several are the way to one inside another: ["realm_access", "roles"].
ClaimPath = Text | Annotated[tuple[Text, ...], Field(min_length=1)]
# A value of `acr` as a challenge can name it. Source: RFC 6749, appendix A.4 (NQCHAR)
Level = Annotated[str, Field(pattern=r"^[!#-\[\]-~]{1,255}$")]
# By which a token may be signed.
Algorithm = Literal["ES256", "RS256", "EdDSA"]


class ClaimPaths(BaseModel):
    """Under which names an issuer writes what we need."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: ClaimPath = "sub"
    # Who somebody is, whatever account they sign in with. It must be nothing that people may change themselves.
    person: ClaimPath | None = None
    role: ClaimPath = "role"
    organization: ClaimPath = "org_id"
    # How, and when, somebody signed in. Source: RFC 8176 (amr), OpenID Connect Core 1.0, section 2 (acr, auth_time)
    methods: ClaimPath = "amr"
    level: ClaimPath = "acr"
    sign_in_time: ClaimPath = "auth_time"


class Issuer(BaseModel):
    """One issuer of tokens, of people's or of programs' with API keys, and what is believed of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: Text
    # What its tokens must name as their audience, and what they may name beside it.
    audience: Text
    other_audiences: frozenset[Text] = frozenset()
    # The path or URL of its JWKS; without one, its discovery document says where it is.
    jwks: Text | None = None
    algorithms: Annotated[frozenset[Algorithm], Field(min_length=1)] = frozenset({"ES256"})
    # The header `typ` of its access tokens.
    typ: Literal["at+jwt", "JWT"] = "at+jwt"
    lifetime_seconds_max: Annotated[int, Field(ge=1, le=86400)] = 300
    claims: ClaimPaths = ClaimPaths()
    # Claims that must have exactly these values: what tells an access token from others where the type does not.
    required: dict[Text, Text] = {}
    # Its word for a role -> ours. Words that are not here say nothing.
    roles: dict[Text, Text] = {role: role for role in ROLES}
    # Its word for an organization -> ours, and it speaks for no other; None: it speaks for any, in our words.
    organizations: dict[Text, Text] | None = None
    # It signs for API keys and nobody else, and nobody else does. How its tokens say what we need is fixed.
    api_keys: bool = False
    # Put before its subjects, so that they are nobody else's.
    prefix: Annotated[str, Field(max_length=64)] = ""
    # Any of them is a strong sign-in.
    strong_methods: frozenset[Text] = frozenset({"mfa"})
    strong_levels: frozenset[Level] = frozenset()
    # How long ago a person who decides may have signed in like that; None, where the issuer cannot tell, asks nobody.
    strong_seconds_max: Annotated[int, Field(ge=1)] | None = 900

    @field_validator("roles")
    @classmethod
    def _are_our_roles(cls, roles: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(set(roles.values()) - ROLES):
            raise ValueError(f"no role of ours: {', '.join(unknown)}")
        return roles

    @field_validator("organizations")
    @classmethod
    def _are_organizations(cls, organizations: dict[str, str] | None) -> dict[str, str] | None:
        if not all(map(is_organization, (organizations or {}).values())):
            raise ValueError("holds what is no name of an organization")
        return organizations

    @field_validator("issuer", "prefix")
    @classmethod
    def _is_no_machine(cls, text: str) -> str:
        if normalize_person(text).startswith(MACHINE_PREFIXES):
            raise ValueError("only services and programs are named like that")
        return text

    @model_validator(mode="after")
    def _has_a_key_set(self) -> Self:
        if self.api_keys and (self.jwks is None or self.prefix):
            raise ValueError("an issuer for API keys names its jwks, and no prefix")
        return self

    @property
    def discovery_url(self) -> str:
        return f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"

    def may_clash_with(self, other: Issuer) -> bool:
        """Whether the same subject of both would be one and the same caller."""
        mine, others = (set((issuer.organizations or {}).values()) for issuer in (self, other))
        apart = self.organizations is not None and other.organizations is not None and not mine & others
        return self.prefix == other.prefix and not (apart or self.api_keys != other.api_keys)


def read_issuers(path: Path) -> dict[str, Issuer]:
    """The issuers of a file, by name.

    Raises:
        ConfigurationError: it cannot be read, says something else, or lets two issuers name the same caller.
    """
    found = read_json_file(path, _SETTING, TypeAdapter(list[Issuer]))
    if not found:
        raise ConfigurationError(f"{_SETTING}: {path.name}: names no issuer")
    for one, other in combinations(found, 2):
        if one.api_keys and other.api_keys:
            raise ConfigurationError(f"{_SETTING}: {path.name}: {one.issuer} and {other.issuer} both sign for API keys")
        if one.issuer == other.issuer:
            raise ConfigurationError(f"{_SETTING}: {path.name}: {one.issuer} stands there twice")
        if one.may_clash_with(other):
            message = "speak for the same organization, so each needs a prefix of its own"
            raise ConfigurationError(f"{_SETTING}: {path.name}: {one.issuer} and {other.issuer} {message}")
    return {issuer.issuer: issuer for issuer in found}


class Claims:
    """What a token claims, read with the type it must have: whatever else stands there is an unacceptable token."""

    def __init__(self, payload: bytes) -> None:
        """Raises: Unauthenticated unless it is a JSON object."""
        try:
            found = from_json(payload)
        except ValueError:  # deeply nested and huge values included
            raise not_acceptable() from None
        if not isinstance(found, dict):
            raise not_acceptable()
        self._found: dict[str, Any] = found

    def has(self, path: ClaimPath) -> bool:
        return self._at(path) is not None

    def text(self, path: ClaimPath) -> str:
        """One line, as any issuer spells a name: `auth0|5f7c8ec7`, `ann@example.org`. Raises: Unauthenticated."""
        return _text(self._at(path))

    def texts(self, path: ClaimPath) -> frozenset[str]:
        """One text, several or none. Raises: Unauthenticated."""
        found = self._at(path)
        if found is None:
            return frozenset()
        return frozenset(map(_text, found if isinstance(found, list) else [found]))

    def seconds(self, path: ClaimPath) -> int:
        """A time, in whole seconds since 1970. Raises: Unauthenticated."""
        found = self._at(path)
        if type(found) is not int or not 0 <= found <= _SECONDS_MAX:
            raise not_acceptable()
        return found

    def _at(self, path: ClaimPath) -> Any:
        found: Any = self._found
        for name in (path,) if isinstance(path, str) else path:
            if not isinstance(found, dict):
                return None
            found = found.get(name)
        return found


def not_acceptable() -> Unauthenticated:
    """Always the same words: what is wrong with a token helps nobody but a thief."""
    return Unauthenticated("The token is not acceptable.")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise not_acceptable()
    return value
