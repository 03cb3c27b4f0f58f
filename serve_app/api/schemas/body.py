"""Base classes of all request and response bodies."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

MAX_FIELDS = 64  # in one object; bounds the number of reported errors, one for each unknown field


class Body(BaseModel):
    """Strict: unknown fields, values of another JSON type, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def refuse_many_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "An object may have {most} fields", {"most": MAX_FIELDS})
        return value


class Answer(BaseModel):
    """Describes a response for OpenAPI. Responses are not validated before they are sent."""
