"""Who is calling: the caller as a Principal, which tokens.py makes of what was sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from services.chassis.values.errors import InvalidField
from services.chassis.values.invariant import InvariantViolation
from services.chassis.values.refusals import PartyNotFound
from services.chassis.values.session import Session
from services.chassis.values.text import SERVICE_PREFIX, normalize_person

INVESTOR, SPONSOR, ADMIN, AUDITOR = "investor", "sponsor", "admin", "auditor"
ROLES = frozenset({INVESTOR, SPONSOR, ADMIN, AUDITOR})
SERVICE_ROLE = "service"
# One token of an event's subject, which NATS divides at dots.
_ORGANIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class SignedInKey:
    """An API key, as its token says it: which one, what it may be used for, and which of its secrets was shown."""

    api_key_id: str
    scopes: frozenset[str]
    secret_id: str


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, in one organization.

    `subject` is the account that proved itself. `on_behalf_of` is the person a service acts for: proven where `token`
    is that person's own, and else what the service says, which is for the log alone. `parties` are those an investor
    acts for, which no token says, and empty for everybody else. How somebody signed in is not compared: it makes nobody
    somebody else.
    """

    subject: str
    role: str
    org_id: str
    on_behalf_of: str | None = None
    parties: frozenset[str] = frozenset()
    # Who signed in with the account, where the issuer says it; otherwise the account is who somebody is.
    known_as: str = ""
    # When the person signed in, in seconds since 1970; None for a service by itself.
    signed_in_at: int | None = field(default=None, compare=False)
    # When the person last signed in with more than one factor, in seconds since 1970, if it did; what its issuer calls
    # such a sign-in; and for how long one is good for a decision. None: a decision asks for none.
    strong_sign_in_at: int | None = field(default=None, compare=False)
    strong_levels: str = field(default="", compare=False)
    strong_seconds_max: int | None = field(default=None, compare=False)
    # What signed in for its holder, who is the person here, where no person did.
    api_key: SignedInKey | None = None
    # In which session the person asked, where somebody else goes on with it: a deed once it is approved, a saga.
    asked_in: Session | None = field(default=None, compare=False)
    # By which approval it is done, if it is done by one.
    approval_id: str | None = field(default=None, compare=False)
    # Who asked for what is done by an approval, and who approved it; empty where nobody else has a part in it.
    makers_and_checkers: frozenset[str] = field(default=frozenset(), compare=False)
    # The person's own token, which travels with what is asked of other services for this call.
    token: str = field(default="", repr=False, compare=False)

    @property
    def service(self) -> str:
        """The name of the service that calls; empty where a person does."""
        return self.subject.removeprefix(SERVICE_PREFIX) if self.role == SERVICE_ROLE else ""

    @property
    def person(self) -> str:
        """Who it is: whom the audit log names, and who is or is not a second person.

        In one spelling, so that nobody is two persons by two accounts or by capitals.
        """
        return normalize_person(self.on_behalf_of or self.known_as or self.subject)

    @property
    def api_key_id(self) -> str | None:
        """The API key that signed in for the person, if one did."""
        return None if self.api_key is None else self.api_key.api_key_id

    @property
    def session(self) -> Session:
        """In which session it asks: the person's; a service by itself has none."""
        return self.asked_in or Session(self.signed_in_at, self.api_key_id)

    @property
    def key_owner(self) -> str:
        """Whose idempotency keys it uses: its own, or, where what a person asked for is done, that person's."""
        in_name_of = self.on_behalf_of if self.role != SERVICE_ROLE else None
        return f"{self.subject}/{in_name_of}" if in_name_of else self.subject

    def for_person(self, actor: Principal) -> Principal:
        """This service, acting for a person who proved who it is."""
        return replace(
            self,
            on_behalf_of=actor.person,
            signed_in_at=actor.signed_in_at,
            strong_sign_in_at=actor.strong_sign_in_at,
            strong_levels=actor.strong_levels,
            strong_seconds_max=actor.strong_seconds_max,
            api_key=actor.api_key,
            token=actor.token,
        )

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


def is_organization(name: str) -> bool:
    """Whether it may name one organization: `*`, for one, would be all of them."""
    return _ORGANIZATION.fullmatch(name) is not None


def service_principal(name: str, org_id: str, on_behalf_of: str | None = None) -> Principal:
    """The service `name` itself, at work in one organization: jobs, sagas, subscribers."""
    return Principal(f"service:{name}", SERVICE_ROLE, org_id, on_behalf_of)
