"""What the gateway is told from outside, beside the settings every process has."""

from __future__ import annotations

import re

import limits
from pydantic import Field, field_validator

from services.chassis.process.settings import Settings as ChassisSettings

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


class Settings(ChassisSettings):
    """The gateway's own settings; rates are written as `600/minute`."""

    # 0 lets the system choose a port.
    port: int = Field(default=8080, ge=0, le=65535)
    # How long a request may take, whole; the services get what is left of it.
    request_seconds_max: float = Field(default=10, gt=0)
    # How long a caller may take to send its headers, and then its body; a body gets at most half of a request's time.
    receive_seconds_max: float = Field(default=10, gt=0)
    body_bytes_max: int = Field(default=256 * 1024, ge=1)
    # A batch request repeats up to 1000 messages.
    batch_bytes_max: int = Field(default=1024 * 1024, ge=1)
    connections_max: int = Field(default=2000, ge=1)
    # Requests under way at once; more are refused at once.
    requests_max: int = Field(default=500, ge=1)
    # Requests of one network address, before anything else is looked at.
    rate_per_address: str = "60000/minute"
    # Refused tokens of one network address: guessing is slow.
    rate_of_refused_tokens: str = "600/minute"
    # Requests of one caller, once its token is verified.
    rate_per_principal: str = "30000/minute"
    # Of all callers of one organization: one organization's load is not every organization's wait.
    rate_per_organization: str = "120000/minute"
    # Of a caller's requests, a second person's decisions, those with an account number, and sign-ins at banks: a person
    # makes few. Of an address, those with the secret of an API key.
    rate_of_guarded_calls: str = "300/minute"
    # Origins whose pages may call the API from a browser, e.g. `["https://console.example.com"]`; none if empty.
    cors_origins: tuple[str, ...] = ()

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError("must be origins such as https://console.example.com, without a path or wildcard")
        return origins

    @field_validator(
        *("rate_per_address", "rate_of_refused_tokens"),
        *("rate_per_organization", "rate_per_principal", "rate_of_guarded_calls"),
    )
    @classmethod
    def _is_a_rate(cls, text: str) -> str:
        try:
            limits.parse(text)
        except ValueError:
            raise ValueError("must be a rate such as 600/minute") from None
        return text
