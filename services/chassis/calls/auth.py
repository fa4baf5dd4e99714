"""Who is calling: tokens verified, the caller as a Principal, a service's own tokens.

Only ES256 is accepted, only with keys from the configured JWKS, only for our audience, and only while short-lived
(reliability rule c35). A service proves itself with a key of its own (`kid` = `sub` = `service:<name>`), and only
beside such a token are the organization and the person it acts for believed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from services.chassis.calls.keys import AGE_SECONDS_MAX, PublishedKeys
from services.chassis.process.settings import ConfigurationError, Settings, read_private_file
from services.chassis.values.errors import InvalidField, PermissionDenied, Unauthenticated
from services.chassis.values.invariant import InvariantViolation
from services.chassis.values.refusals import PartyNotFound
from services.chassis.values.text import find_fault

INVESTOR = "investor"
ROLES = frozenset({INVESTOR, "sponsor", "admin", "auditor"})
SERVICE_ROLE = "service"
_SERVICE_PREFIX = "service:"
# One token of an event's subject, so no dot.
_ORGANIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SUBJECT_BYTES_MAX = 255
_SERVICE_TOKEN_SECONDS = 60
_CLOCK_SKEW_SECONDS = 5
_REMEMBERED_MAX = 4096


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, in one organization.

    `subject` is who proved itself; `on_behalf_of` the person a service says it acts for; `parties` are those an
    investor acts for, which no token says, and empty for everybody else.
    """

    subject: str
    role: str
    org_id: str
    on_behalf_of: str | None = None
    parties: frozenset[str] = frozenset()
    # The person's own token, which travels with what is asked of other services for this call.
    token: str = field(default="", repr=False, compare=False)

    @property
    def service(self) -> str:
        """The name of the service that calls; empty where a person does."""
        return self.subject.removeprefix(_SERVICE_PREFIX) if self.role == SERVICE_ROLE else ""

    @property
    def person(self) -> str:
        """Whom the audit log names."""
        return self.on_behalf_of or self.subject

    @property
    def confined(self) -> bool:
        """True for an investor: it reaches what belongs to its parties, and nothing else."""
        return self.role == INVESTOR

    def may_reach(self, party_id: str) -> bool:
        """Whether what belongs to the party is there for this caller."""
        return not self.confined or party_id in self.parties

    def choose_party(self, named: str, field: str = "party_id") -> str:
        """The party a request is about: the one it names, or else the only one the caller acts for.

        Args:
            named: What the request says, or nothing.
            field: The request's field that names it.

        Raises:
            PartyNotFound: the caller does not act for the named party.
            InvalidField: none is named, and the caller acts for several or may act for any.
        """
        if named:
            if not self.may_reach(named):
                raise PartyNotFound(field)
            return named
        if len(self.parties) != 1:
            raise InvalidField(
                f"No party is named: {field} must say whose it is.", fields={field: "must name the party"}
            )
        return next(iter(self.parties))


_principal: ContextVar[Principal | None] = ContextVar("principal", default=None)


def current_principal() -> Principal:
    """The caller of the current request, or whom `acting_as` named.

    Raises:
        InvariantViolation: there is none; code that runs outside a request says whom it acts as.
    """
    principal = _principal.get()
    if principal is None:
        raise InvariantViolation("no principal: wrap the work in acting_as(service_principal(...))")
    return principal


def principal_or_none() -> Principal | None:
    return _principal.get()


@contextmanager
def acting_as(principal: Principal) -> Iterator[Principal]:
    """Runs the block as `principal`: its organization's rows, its name in the events."""
    token = _principal.set(principal)
    try:
        yield principal
    finally:
        _principal.reset(token)


def organization(name: str) -> str:
    """The name, if it may be one organization's. Raises ValueError: `*` for one would be all of them."""
    if not _ORGANIZATION.fullmatch(name):
        raise ValueError("no name of an organization")
    return name


def _is_subject(text: str) -> bool:
    """Whether it can name a person, as any issuer spells them: `auth0|5f7c8ec7`, `ann@example.org`."""
    length = len(text.encode("utf-8", "replace"))
    return 0 < length <= _SUBJECT_BYTES_MAX and find_fault(text) is None and text == text.strip()


def service_principal(name: str, org_id: str, on_behalf_of: str | None = None) -> Principal:
    """The service `name` itself, at work in one organization: jobs, sagas, subscribers."""
    return Principal(f"service:{name}", SERVICE_ROLE, org_id, on_behalf_of)


class ServiceIdentity:
    """A service's own key, and the short-lived tokens it signs with it."""

    def __init__(self, name: str, key: str | bytes | ECKey, audience: str = "realco") -> None:
        self.subject = f"service:{name}"
        self._key = key if isinstance(key, ECKey) else ECKey.import_key(key)
        if self._key.curve_name != "P-256" or not self._key.is_private:
            raise ConfigurationError("SERVICE_KEY_FILE: must hold a private key of curve P-256")
        self._audience = audience
        self._token = ""
        self._renew_at = 0.0

    @classmethod
    def load(cls, name: str, path: Path, audience: str = "realco") -> ServiceIdentity:
        try:
            return cls(name, read_private_file(path, "SERVICE_KEY_FILE"), audience)
        except (JoseError, ValueError):
            raise ConfigurationError(f"SERVICE_KEY_FILE: {path.name} is not a PEM private key of curve P-256") from None

    def public_jwk(self) -> dict[str, Any]:
        """The entry of this key in the JWKS."""
        return {**self._key.as_dict(private=False), "kid": self.subject, "use": "sig", "alg": "ES256"}

    def token(self) -> str:
        """A token good for at least half a minute more."""
        now = time.time()
        if now >= self._renew_at:
            claims = {
                "iss": self.subject,
                "sub": self.subject,
                "aud": self._audience,
                "role": SERVICE_ROLE,
                "iat": int(now),
                "exp": int(now) + _SERVICE_TOKEN_SECONDS,
            }
            header = {"alg": "ES256", "typ": "at+jwt", "kid": self.subject}
            self._token = jwt.encode(header, claims, self._key, algorithms=["ES256"])
            self._renew_at = now + _SERVICE_TOKEN_SECONDS / 2
        return self._token


class Verifier:
    """Turns a bearer token into a Principal, or refuses it. One for a process; keys are kept and refreshed."""

    def __init__(self, settings: Settings) -> None:
        settings.require("jwks", "jwt_issuer")
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._lifetime_seconds_max = settings.token_lifetime_seconds_max
        self._keys = PublishedKeys(settings.jwks)
        self._remembered: dict[bytes, tuple[float, dict[str, Any]]] = {}

    async def verify(self, token: str, *, org_id: str | None = None, on_behalf_of: str | None = None) -> Principal:
        """The caller this token proves.

        Args:
            token: The compact JWT, without `Bearer `.
            org_id: The metadata `x-realco-org`, believed only beside a service's token.
            on_behalf_of: The metadata `x-realco-on-behalf-of-bin`, believed likewise.

        Raises:
            Unauthenticated: the token is not acceptable.
            PermissionDenied: a service did not name the organization it acts in.
            Unavailable: the issuer's keys cannot be had just now.
        """
        claims = await self._claims(token)
        subject = str(claims["sub"])
        if claims["role"] != SERVICE_ROLE:
            return Principal(subject, str(claims["role"]), str(claims["org_id"]), token=token)
        if org_id is None or not _ORGANIZATION.fullmatch(org_id):
            raise PermissionDenied("A service names the organization it acts in (x-realco-org).")
        if on_behalf_of is not None and not _is_subject(on_behalf_of):
            raise PermissionDenied("The person acted for (x-realco-on-behalf-of-bin) is not a name.")
        return Principal(subject, SERVICE_ROLE, org_id, on_behalf_of)

    async def verify_actor(self, principal: Principal, token: str) -> Principal:
        """The person whose own token came beside a service's.

        Raises:
            Unauthenticated: it is no person's, of another organization, or came beside no service's.
        """
        actor = await self.verify(token, org_id=principal.org_id)
        if not principal.service or actor.service or actor.org_id != principal.org_id:
            raise Unauthenticated("The token is not acceptable.")
        return actor

    async def _claims(self, token: str) -> dict[str, Any]:
        # Checking a signature costs more than all else in a small call; what passed stays good until it expires.
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        remembered = self._remembered.get(digest)
        if remembered is not None and remembered[0] > time.time():
            return remembered[1]
        claims = await self._checked(token)
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        # Not past the age of the keys: a key withdrawn from the JWKS stops working within that time.
        self._remembered[digest] = (min(float(claims["exp"]), time.time() + AGE_SECONDS_MAX), claims)
        return claims

    async def _checked(self, token: str) -> dict[str, Any]:
        header = _header(token)
        key = await self._key(header["kid"])
        try:
            claims: dict[str, Any] = dict(jwt.decode(token, key, algorithms=["ES256"]).claims)
        except (JoseError, ValueError):
            raise Unauthenticated("The token is not acceptable.") from None
        if not self._acceptable(header["kid"], claims):
            raise Unauthenticated("The token is not acceptable.")
        return claims

    def _acceptable(self, kid: str, claims: dict[str, Any]) -> bool:
        iat, exp, subject, role = (claims.get(name) for name in ("iat", "exp", "sub", "role"))
        now = time.time()
        if type(iat) is not int or type(exp) is not int or not isinstance(subject, str) or not isinstance(role, str):
            return False
        if claims.get("aud") not in (self._audience, [self._audience]) or not _is_subject(subject):
            return False
        if exp <= now or iat > now + _CLOCK_SKEW_SECONDS or claims.get("nbf", iat) > now + _CLOCK_SKEW_SECONDS:
            return False
        if kid.startswith("service:"):
            lifetime_ok = exp - iat <= _SERVICE_TOKEN_SECONDS
            return lifetime_ok and kid == subject == claims.get("iss") and role == SERVICE_ROLE
        org_id = claims.get("org_id")
        return (
            claims.get("iss") == self._issuer
            and exp - iat <= self._lifetime_seconds_max
            and role in ROLES
            and not subject.startswith("service:")
            and isinstance(org_id, str)
            and _ORGANIZATION.fullmatch(org_id) is not None
        )

    async def _key(self, kid: str) -> ECKey:
        key = await self._keys.find(kid)
        if not isinstance(key, ECKey):
            raise Unauthenticated("The token is not acceptable.")
        return key


def _header(token: str) -> dict[str, Any]:
    """The protected header, when it is one of ours: nothing in it may choose keys or algorithms."""
    try:
        header = jws.extract_compact(token.encode("ascii")).protected
    except (JoseError, ValueError):  # the second: it is not ASCII
        raise Unauthenticated("The token is not acceptable.") from None
    if (
        not isinstance(header, dict)
        or not header.keys() <= {"alg", "typ", "kid"}
        or header.get("alg") != "ES256"
        or header.get("typ") != "at+jwt"
        or not isinstance(header.get("kid"), str)
    ):
        raise Unauthenticated("The token is not acceptable.")
    return header
