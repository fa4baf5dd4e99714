"""The local issuer's tokens, as the services' own verifier sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.local import token
from deploy.local.identity import LIFETIME_SECONDS, Identity
from deploy.topology import SERVICE_NAMES
from services.chassis.calls.sign_in import InsufficientUserAuthentication, check_fresh_sign_in
from services.chassis.calls.tokens import ServiceIdentity, Verifier
from services.chassis.process.settings import Settings
from services.chassis.values.errors import Unauthenticated


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    made = Identity(tmp_path_factory.mktemp("identity"))
    made.prepare()
    return made


@pytest.fixture
def verifier(identity: Identity) -> Verifier:
    settings = Settings(issuers_file=identity.issuers_file, service_jwks=str(identity.service_jwks_file))
    return Verifier(settings, "escrow")


@pytest.mark.parametrize(
    ("role", "sub", "org", "subject"),
    [
        ("admin", None, "org-demo", "admin-1"),
        ("sponsor", None, "org-demo", "sponsor-1"),
        ("investor", None, "org-demo", "inv-001"),
        ("auditor", None, "org-demo", "auditor-1"),
        ("admin", "admin-2", "org-other", "admin-2"),
    ],
)
async def test_a_token_proves_its_person(
    identity: Identity, verifier: Verifier, role: str, sub: str | None, org: str, subject: str
) -> None:
    found = await verifier.verify(identity.issue_token(role, sub, org))
    assert (found.subject, found.person, found.role, found.org_id) == (subject, subject, role, org)
    check_fresh_sign_in(found)


async def test_two_accounts_may_be_one_person(identity: Identity, verifier: Verifier) -> None:
    tokens = [
        identity.issue_token("admin", sub, person=name) for sub, name in (("a1", "Ann@X.org"), ("a2", "ann@x.org"))
    ]
    found = [await verifier.verify(token) for token in tokens]
    assert [one.subject for one in found] == ["a1", "a2"]
    assert {one.person for one in found} == {"ann@x.org"}


async def test_a_sign_in_by_password_alone_is_not_strong(identity: Identity, verifier: Verifier) -> None:
    found = await verifier.verify(identity.issue_token("admin", signed_in=["pwd"]))
    with pytest.raises(InsufficientUserAuthentication):
        check_fresh_sign_in(found)


@pytest.mark.parametrize("lifetime", [-1, 0, LIFETIME_SECONDS + 1])
async def test_a_token_that_is_over_or_lives_too_long_proves_nothing(
    identity: Identity, verifier: Verifier, lifetime: int
) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(identity.issue_token("admin", lifetime=lifetime))


async def test_a_stranger_with_a_key_of_their_own_proves_nothing(verifier: Verifier, tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(Identity(tmp_path).issue_token("admin"))


@pytest.mark.parametrize("name", SERVICE_NAMES)
async def test_each_service_proves_itself_with_its_own_key(identity: Identity, verifier: Verifier, name: str) -> None:
    own = ServiceIdentity(name, identity.keys.service_key(name))
    principal = await verifier.verify(own.token("escrow"), org_id="org-demo", on_behalf_of="admin-1")
    assert (principal.subject, principal.person) == (f"service:{name}", "admin-1")
    others = [ServiceIdentity(name, identity.keys.service_key(other)) for other in SERVICE_NAMES if other != name]
    for impostor in others:
        with pytest.raises(Unauthenticated):
            await verifier.verify(impostor.token("escrow"), org_id="org-demo")


def test_the_key_set_holds_nothing_private(identity: Identity) -> None:
    for path, count in ((identity.jwks_file, 1), (identity.service_jwks_file, len(SERVICE_NAMES))):
        keys = json.loads(path.read_text())["keys"]
        assert len(keys) == count
        assert not any("d" in key for key in keys)


def test_keys_outlive_a_restart(identity: Identity) -> None:
    before = identity.jwks_file.read_text()
    identity.prepare()
    assert identity.jwks_file.read_text() == before


async def test_the_command_prints_just_the_token(
    identity: Identity, verifier: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    assert token.main(["--role", "sponsor", "--data-dir", str(identity.jwks_file.parent)]) == 0
    assert (await verifier.verify(capsys.readouterr().out.strip())).subject == "sponsor-1"


def test_without_an_instance_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert token.main(["--data-dir", str(tmp_path)]) == 1
    assert "make run" in capsys.readouterr().err
