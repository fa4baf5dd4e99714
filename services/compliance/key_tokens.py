"""The tokens that programs get for the secrets of their API keys.

Compliance signs them with a key of its own, which signs nothing else (`API_TOKEN_KEY_FILE`); every process checks them
with the public half, as the tokens of the one issuer for API keys in ISSUERS_FILE.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from realco.compliance.v1 import api_keys_pb2 as pb

from services.chassis.calls.auth import ADMIN, AUDITOR
from services.chassis.calls.issuers import Issuer, read_issuers
from services.chassis.calls.tokens import API_KEY_TOKEN_SECONDS
from services.chassis.process.settings import ConfigurationError, Settings, read_private_file
from services.chassis.values.text import API_KEY_PREFIX
from services.compliance.domain.api_keys import ApiKey, Secret, is_writing

_SETTING = "API_TOKEN_KEY_FILE"


class KeyTokens:
    """Signs tokens of API keys.

    Args:
        issuer: In whose name.
        key: A private key of curve P-256.
    """

    def __init__(self, issuer: Issuer, key: ECKey) -> None:
        if key.curve_name != "P-256" or not key.is_private:
            raise ConfigurationError(f"{_SETTING}: must hold a private key of curve P-256")
        self._issuer, self._key = issuer, key
        self._key_id = public_jwk_of(key)["kid"]

    @classmethod
    def load(cls, settings: Settings, key_file: Path) -> KeyTokens:
        """Raises: ConfigurationError."""
        assert settings.issuers_file is not None  # required before
        issuer = find_issuer(read_issuers(settings.issuers_file).values())
        try:
            key = ECKey.import_key(read_private_file(key_file, _SETTING))
        except (JoseError, ValueError):
            raise ConfigurationError(f"{_SETTING}: {key_file.name} is no PEM private key of curve P-256") from None
        return cls(issuer, key)

    def issue(self, key: ApiKey, org_id: str, secret: Secret, now: datetime) -> pb.ApiKeyToken:
        """A token for the program that has this secret of the key.

        It is an admin's within the key's scopes, or an auditor's where it only reads: so even a scope that were checked
        nowhere lets no reader write. The secret's age stands where a person's token has the sign-in.
        """
        seconds = max(1, min(API_KEY_TOKEN_SECONDS, math.floor((key.expires_at - now).total_seconds())))
        issued = int(time.time())
        claims = {
            "iss": self._issuer.issuer,
            "aud": self._issuer.audience,
            "sub": f"{API_KEY_PREFIX}{key.api_key_id}",
            "person": key.created_by,
            "role": ADMIN if is_writing(key.scopes) else AUDITOR,
            "org_id": org_id,
            "scope": " ".join(key.scopes),
            "auth_time": int(secret.made_at.timestamp()),
            "sid": secret.secret_id,
            "iat": issued,
            "exp": issued + seconds,
        }
        header = {"alg": "ES256", "typ": "at+jwt", "kid": self._key_id}
        token = jwt.encode(header, claims, self._key, algorithms=["ES256"])
        return pb.ApiKeyToken(access_token=token, token_type="Bearer", expires_in_seconds=seconds)  # noqa: S106


def find_issuer(issuers: Iterable[Issuer]) -> Issuer:
    """The one for API keys. Raises: ConfigurationError."""
    for issuer in issuers:
        if issuer.api_keys:
            return issuer
    raise ConfigurationError("ISSUERS_FILE: names no issuer for API keys")


def public_jwk_of(key: ECKey) -> dict[str, Any]:
    """The entry of the key in the JWKS that the issuer names. Source of the `kid`: RFC 7638"""
    return {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": "ES256"}
