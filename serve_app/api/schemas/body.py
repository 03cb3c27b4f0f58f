"""What all request bodies share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

MAX_FIELDS = 64  # of one object; beyond it each unknown field would be an error of its own to report


class Body(BaseModel):
    """Strict: unknown fields and values of another JSON type are refused. No NaN, no infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def refuse_many_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "An object has at most {most} fields", {"most": MAX_FIELDS})
        return value


class Answer(BaseModel):
    """Describes an answer for OpenAPI; answers are not validated again on their way out."""
