"""Tokens: the caller that one proves, and a service's own.

People's tokens come from the issuers that ISSUERS_FILE names, so do those of programs with API keys, and services' from
themselves. Each is checked with the keys of its own issuer and no other: SERVICE_JWKS holds the services' keys. An
issuer that is taken over is thus no service, and a service's key makes nobody a person; the issuer for API keys proves
no person, and a person's issuer no API key. A service's token names the one service it is for. Only pinned
asymmetric algorithms, only our audience, only while short-lived (reliability rule c35).
"""

from __future__ import annotations

import base64
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from pydantic import BaseModel, ConfigDict, Field

from services.chassis.calls.auth import ADMIN, AUDITOR, SERVICE_ROLE, Principal, SignedInKey, is_organization
from services.chassis.calls.issuers import Algorithm, Claims, Issuer, not_acceptable, read_issuers
from services.chassis.calls.keys import PublicKey, PublishedKeys
from services.chassis.process.settings import ConfigurationError, Settings, read_private_file
from services.chassis.values.errors import PermissionDenied
from services.chassis.values.text import API_KEY_PREFIX, SERVICE_PREFIX, is_name, is_person

_SERVICE_TOKEN_SECONDS = 60
API_KEY_TOKEN_SECONDS = 300
_CLOCK_SKEW_SECONDS = 5
# A person's token was good when the call began that it came along with; no call takes longer.
_ACTOR_GRACE_SECONDS = 60
_REMEMBERED_MAX = 4096
_RSA_BITS_MIN = 2048
_API_KEY = re.compile(f"{API_KEY_PREFIX}(key_[0-9A-Za-z]{{1,64}})")

# RFC 9864 calls the name too wide, since it does not say the curve. Issuers write it all the same; we pin the curve.
warnings.filterwarnings("ignore", message="EdDSA is deprecated")


def audience_of(service: str) -> str:
    """What a token for that service, and for no other, names as its audience."""
    return f"realco.{service}"


class ServiceIdentity:
    """A service's own key, and the short-lived tokens it signs with it."""

    def __init__(self, name: str, key: str | bytes | ECKey) -> None:
        self.subject = f"{SERVICE_PREFIX}{name}"
        self._key = key if isinstance(key, ECKey) else ECKey.import_key(key)
        if self._key.curve_name != "P-256" or not self._key.is_private:
            raise ConfigurationError("SERVICE_KEY_FILE: must hold a private key of curve P-256")
        self._tokens: dict[str, tuple[float, str]] = {}

    @classmethod
    def load(cls, name: str, path: Path) -> ServiceIdentity:
        try:
            return cls(name, read_private_file(path, "SERVICE_KEY_FILE"))
        except (JoseError, ValueError):
            raise ConfigurationError(f"SERVICE_KEY_FILE: {path.name} is not a PEM private key of curve P-256") from None

    def public_jwk(self) -> dict[str, Any]:
        """The entry of this key in the JWKS."""
        return {**self._key.as_dict(private=False), "kid": self.subject, "use": "sig", "alg": "ES256"}

    def token(self, callee: str) -> str:
        """A token for the service `callee`, good for at least half a minute more."""
        now = time.time()
        renew_at, token = self._tokens.get(callee, (0.0, ""))
        if now >= renew_at:
            claims = {
                "iss": self.subject,
                "sub": self.subject,
                "aud": audience_of(callee),
                "iat": int(now),
                "exp": int(now) + _SERVICE_TOKEN_SECONDS,
            }
            header = {"alg": "ES256", "typ": "at+jwt", "kid": self.subject}
            token = jwt.encode(header, claims, self._key, algorithms=["ES256"])
            self._tokens[callee] = (now + _SERVICE_TOKEN_SECONDS / 2, token)
        return token


class _Header(BaseModel):
    """The protected header: nothing in it may choose keys or add rules (`jku`, `x5u`, `jwk`, `crit`)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    alg: Algorithm
    typ: Literal["at+jwt", "JWT"]
    kid: str = Field(min_length=1, max_length=255)
    # Says the same as `kid`, and is not looked at.
    x5t: str = ""


class Verifier:
    """Turns a bearer token into a Principal, or refuses it. One for a process; keys are kept and refreshed.

    Args:
        service: The service it checks for; empty at the gateway, which no service calls.
    """

    def __init__(self, settings: Settings, service: str = "") -> None:
        settings.require("issuers_file", *(["service_jwks"] if service else []))
        assert settings.issuers_file is not None  # just required
        self._issuers = read_issuers(settings.issuers_file)
        self._keys = {
            name: PublishedKeys(issuer.jwks) if issuer.jwks else PublishedKeys(issuer.discovery_url, name)
            for name, issuer in self._issuers.items()
        }
        self._service_keys = PublishedKeys(settings.service_jwks)
        self._service = service
        # The digest of a token -> when it expires, how long its key is known to be good, and whom it proves.
        self._remembered: dict[bytes, tuple[int, float, Principal]] = {}

    async def verify(self, token: str, *, org_id: str | None = None, on_behalf_of: str | None = None) -> Principal:
        """The caller this token proves.

        Args:
            token: The compact JWT, without `Bearer `.
            org_id: The metadata `x-realco-org`, believed only beside a service's token.
            on_behalf_of: The metadata `x-realco-on-behalf-of-bin`: whom a service says it acts for. It is for the log,
                and nobody's proof.

        Raises:
            Unauthenticated: the token is not acceptable.
            PermissionDenied: a service did not name the organization it acts in.
            Unavailable: the issuer's keys cannot be had just now.
        """
        principal = await self._prove(token)
        if not principal.service:
            return principal
        if org_id is None or not is_organization(org_id):
            raise PermissionDenied("A service names the organization it acts in (x-realco-org).")
        if on_behalf_of is not None and not is_name(on_behalf_of):
            raise PermissionDenied("The person acted for (x-realco-on-behalf-of-bin) is not a name.")
        return Principal(principal.subject, SERVICE_ROLE, org_id, on_behalf_of)

    async def verify_actor(self, principal: Principal, token: str) -> Principal:
        """The person whose own token came beside a service's.

        Raises:
            Unauthenticated: it is no person's, of another organization, or came beside no service's.
            Unavailable: the issuer's keys cannot be had just now.
        """
        actor = await self._prove(token, grace_seconds=_ACTOR_GRACE_SECONDS)
        if not principal.service or actor.service or actor.org_id != principal.org_id:
            raise not_acceptable()
        return actor

    async def _prove(self, token: str, grace_seconds: int = 0) -> Principal:
        # Checking a signature costs more than all else in a small call; what passed stays good until it expires.
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        expires, good_until, principal = self._remembered.get(digest, (0, 0.0, None))
        if principal is not None and time.time() < min(expires + grace_seconds, good_until):
            return principal
        header, claims = _open(token)
        name = claims.text("iss")
        issuer, keys = self._issuers.get(name), self._keys.get(name, self._service_keys)
        if issuer is None and not (self._service and name == header.kid and name.startswith(SERVICE_PREFIX)):
            raise not_acceptable()
        _check_signature(token, header, await keys.find(header.kid))
        if issuer is None:
            principal = self._service_of(header, claims)
        else:
            _check_issued(header, claims, issuer, grace_seconds)
            known = _api_key_of(claims, issuer) if issuer.api_keys else _person_of(claims, issuer)
            principal = replace(known, token=token)
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        # Not past the age of the keys: a key withdrawn from its set stops working within that time.
        self._remembered[digest] = (claims.seconds("exp"), time.time() + keys.good_seconds(), principal)
        return principal

    def _service_of(self, header: _Header, claims: Claims) -> Principal:
        """Raises: Unauthenticated."""
        _check_times(claims, _SERVICE_TOKEN_SECONDS)
        subject = claims.text("sub")
        if (header.alg, header.typ) != ("ES256", "at+jwt") or subject != header.kid:
            raise not_acceptable()
        if claims.texts("aud") != {audience_of(self._service)}:
            raise not_acceptable()
        return Principal(subject, SERVICE_ROLE, "")


def _open(token: str) -> tuple[_Header, Claims]:
    """What a token says of itself, none of which is proven yet. Raises: Unauthenticated."""
    try:
        head, body, _ = token.encode("ascii").split(b".")
        header = _Header.model_validate_json(_decoded(head))
        return header, Claims(_decoded(body))
    except ValueError:  # not ASCII, not three parts, not base64url, not such a header
        raise not_acceptable() from None


def _decoded(part: bytes) -> bytes:
    """Raises: ValueError, also where the same could be written in another way."""
    decoded = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part:
        raise ValueError("not base64url")
    return decoded


def _check_signature(token: str, header: _Header, key: PublicKey | None) -> None:
    """Raises: Unauthenticated."""
    if key is None or key.alg not in (None, header.alg) or not _FITS[header.alg](key):
        raise not_acceptable()
    try:
        jws.deserialize_compact(token, key, algorithms=[header.alg])
    except (JoseError, ValueError):
        raise not_acceptable() from None


def _fits_es256(key: PublicKey) -> bool:
    return isinstance(key, ECKey) and key.curve_name == "P-256"


def _fits_rs256(key: PublicKey) -> bool:
    return isinstance(key, RSAKey) and key.public_key.key_size >= _RSA_BITS_MIN


def _fits_eddsa(key: PublicKey) -> bool:
    return isinstance(key, OKPKey) and key.curve_name == "Ed25519"


_FITS: dict[Algorithm, Callable[[PublicKey], bool]] = {"ES256": _fits_es256, "RS256": _fits_rs256, "EdDSA": _fits_eddsa}


def _check_times(claims: Claims, lifetime_seconds_max: int, grace_seconds: int = 0) -> None:
    """Raises: Unauthenticated."""
    now = time.time()
    issued, expires = claims.seconds("iat"), claims.seconds("exp")
    begins = claims.seconds("nbf") if claims.has("nbf") else issued
    if (
        expires + grace_seconds <= now
        or max(issued, begins) > now + _CLOCK_SKEW_SECONDS
        or expires - issued > lifetime_seconds_max
    ):
        raise not_acceptable()


def _check_issued(header: _Header, claims: Claims, issuer: Issuer, grace_seconds: int) -> None:
    """Whether it is a token of the kind that the issuer makes for us, and good now. Raises: Unauthenticated."""
    _check_times(claims, API_KEY_TOKEN_SECONDS if issuer.api_keys else issuer.lifetime_seconds_max, grace_seconds)
    audiences = claims.texts("aud")
    if header.alg not in issuer.algorithms or header.typ != issuer.typ:
        raise not_acceptable()
    if issuer.audience not in audiences or not audiences <= issuer.other_audiences | {issuer.audience}:
        raise not_acceptable()
    if any(claims.text(name) != value for name, value in issuer.required.items()):
        raise not_acceptable()


def _api_key_of(claims: Claims, issuer: Issuer) -> Principal:
    """The program that signed in with an API key, for the key's holder. It decides nothing: it never has the sign-in
    that a decision asks for. Raises: Unauthenticated."""
    subject, holder = claims.text("sub"), claims.text("person")
    found, role = _API_KEY.fullmatch(subject), _role_of(claims, issuer)
    if found is None or not is_person(holder) or role not in (ADMIN, AUDITOR):
        raise not_acceptable()
    return Principal(
        subject,
        role,
        _organization_of(claims, issuer),
        known_as=holder,
        # When the secret was made: that ends with the sessions of its holder, too.
        signed_in_at=claims.seconds("auth_time"),
        strong_seconds_max=0,
        api_key=SignedInKey(found[1], frozenset(claims.text("scope").split(" ")), claims.text("sid")),
    )


def _person_of(claims: Claims, issuer: Issuer) -> Principal:
    """The person that the token of a known issuer names. Raises: Unauthenticated."""
    names, now = issuer.claims, time.time()
    subject = f"{issuer.prefix}{claims.text(names.subject)}"
    known_as = claims.text(names.person) if names.person else ""
    if not all(is_person(name) for name in (subject, known_as) if name):
        raise not_acceptable()
    strong = claims.texts(names.methods) & issuer.strong_methods or claims.texts(names.level) & issuer.strong_levels
    at = claims.seconds(names.sign_in_time) if claims.has(names.sign_in_time) else None
    if at is not None and at > now + _CLOCK_SKEW_SECONDS:
        at = None  # it would be fresh for long
    return Principal(
        subject,
        _role_of(claims, issuer),
        _organization_of(claims, issuer),
        known_as=known_as,
        signed_in_at=claims.seconds("iat") if at is None else at,
        strong_sign_in_at=at if strong else None,
        strong_levels=" ".join(sorted(issuer.strong_levels)),
        strong_seconds_max=issuer.strong_seconds_max,
    )


def _role_of(claims: Claims, issuer: Issuer) -> str:
    """The one role of ours that the token names. Raises: Unauthenticated for none, and for several."""
    found = {issuer.roles[word] for word in claims.texts(issuer.claims.role) if word in issuer.roles}
    if len(found) != 1:
        raise not_acceptable()
    return found.pop()


def _organization_of(claims: Claims, issuer: Issuer) -> str:
    """Raises: Unauthenticated unless it names just one that the issuer speaks for."""
    words = claims.texts(issuer.claims.organization)
    known = issuer.organizations
    found = {word if known is None else known.get(word, "") for word in words}
    if len(found) != 1 or not is_organization(name := found.pop()):
        raise not_acceptable()
    return name
