"""The payment order as it arrives: every rule about its fields, and the fingerprint that tells two orders apart."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from sandbox.bank.behaviours import Direction
from sandbox.routing_numbers import has_aba_check_digit

AMOUNT_MINOR_MAX = 10**14
ACH_AMOUNT_MINOR_MAX = 10**10 - 1  # the amount field of a NACHA entry has ten digits


def _routing_number(value: str) -> str:
    if not has_aba_check_digit(value):
        raise PydanticCustomError("routing_number", "must be nine digits with a correct ABA check digit")
    return value


Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]


class PaymentOrder(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    direction: Direction
    amount_minor: Annotated[int, Field(strict=True, ge=1, le=AMOUNT_MINOR_MAX)]
    currency: Literal["USD"]
    method: Literal["ach", "wire", "check", "book"]
    routing_number: Annotated[str, AfterValidator(_routing_number)]
    account_number: Annotated[str, StringConstraints(pattern=r"^[0-9]{4,17}$")]
    account_holder_name: Annotated[Text, Field(min_length=1, max_length=140)]
    reference: Annotated[Text, Field(min_length=1, max_length=64)]
    presentment: Annotated[int, Field(strict=True, ge=1, le=3)]
    description: Annotated[Text, Field(max_length=140)] = ""

    @model_validator(mode="after")
    def _fits_its_method(self) -> Self:
        if self.method == "ach" and self.amount_minor > ACH_AMOUNT_MINOR_MAX:
            raise PydanticCustomError("amount_minor", f"must be at most {ACH_AMOUNT_MINOR_MAX} by ACH")
        if self.direction is Direction.DEBIT and self.method == "wire":
            raise PydanticCustomError("method", "a wire cannot pull money")
        return self

    def fingerprint(self) -> str:
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def field_errors(error: ValidationError) -> list[dict[str, str]]:
    """Which field is wrong and why, without repeating what was sent."""
    return [
        # A rule over two fields has no location; it names the field it blames by its type.
        {"field": ".".join(map(str, problem["loc"])) or _field_of(problem["type"]), "message": problem["msg"]}
        for problem in error.errors(include_input=False, include_context=False, include_url=False)
    ]


def _field_of(error_type: str) -> str:
    return error_type if error_type in PaymentOrder.model_fields else "body"
