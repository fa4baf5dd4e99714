"""The local issuer's tokens, as the services' own verifier sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.local import token
from deploy.local.identity import AUDIENCE, ISSUER, LIFETIME_SECONDS, Identity
from deploy.topology import KEY_HOLDERS
from services.chassis.calls.auth import Principal, ServiceIdentity, Verifier
from services.chassis.process.settings import Settings
from services.chassis.values.errors import Unauthenticated


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    made = Identity(tmp_path_factory.mktemp("identity"))
    made.prepare()
    return made


@pytest.fixture
def verifier(identity: Identity) -> Verifier:
    return Verifier(
        Settings(
            jwks=str(identity.jwks_file),
            jwt_issuer=ISSUER,
            jwt_audience=AUDIENCE,
            token_lifetime_seconds_max=LIFETIME_SECONDS,
        )
    )


@pytest.mark.parametrize(
    ("role", "sub", "org", "principal"),
    [
        ("admin", None, "org-demo", Principal("admin-1", "admin", "org-demo")),
        ("sponsor", None, "org-demo", Principal("sponsor-1", "sponsor", "org-demo")),
        ("investor", None, "org-demo", Principal("inv-001", "investor", "org-demo")),
        ("auditor", None, "org-demo", Principal("auditor-1", "auditor", "org-demo")),
        ("admin", "admin-2", "org-other", Principal("admin-2", "admin", "org-other")),
    ],
)
async def test_a_token_proves_its_person(
    identity: Identity, verifier: Verifier, role: str, sub: str | None, org: str, principal: Principal
) -> None:
    assert await verifier.verify(identity.issue_token(role, sub, org)) == principal


@pytest.mark.parametrize("lifetime", [-1, 0, LIFETIME_SECONDS + 1])
async def test_a_token_that_is_over_or_lives_too_long_proves_nothing(
    identity: Identity, verifier: Verifier, lifetime: int
) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(identity.issue_token("admin", lifetime=lifetime))


async def test_a_stranger_with_a_key_of_their_own_proves_nothing(verifier: Verifier, tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(Identity(tmp_path).issue_token("admin"))


@pytest.mark.parametrize("name", KEY_HOLDERS)
async def test_each_process_proves_itself_with_its_own_key(identity: Identity, verifier: Verifier, name: str) -> None:
    own = ServiceIdentity(name, identity.service_key(name))
    principal = await verifier.verify(own.token(), org_id="org-demo", on_behalf_of="admin-1")
    assert (principal.subject, principal.person) == (f"service:{name}", "admin-1")
    others = [ServiceIdentity(name, identity.service_key(other)) for other in KEY_HOLDERS if other != name]
    for impostor in others:
        with pytest.raises(Unauthenticated):
            await verifier.verify(impostor.token(), org_id="org-demo")


def test_the_key_set_holds_nothing_private(identity: Identity) -> None:
    keys = json.loads(identity.jwks_file.read_text())["keys"]
    assert len(keys) == 1 + len(KEY_HOLDERS)
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
