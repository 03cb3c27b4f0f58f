"""Settings as environment variables: their names, and error messages that contain no secret."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from serve_app.errors import ConfigurationError


def setting_fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Name (in capitals) and field of every known variable. The variable of a whole section takes a JSON object."""
    for name, field in model.model_fields.items():
        full = prefix + name.upper()
        yield full, field
        if is_section(field):
            assert isinstance(field.annotation, type)
            yield from setting_fields(field.annotation, full + "__")


def is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def require_known(name: str, model: type[BaseModel], prefix: str, free_form: str) -> None:
    """Raises ConfigurationError if there is no such variable. free_form: prefix below which users choose the names."""
    known = [known for known, _ in setting_fields(model, prefix)]
    if name.upper() in known or name.upper().startswith(free_form):
        return
    nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0)
    raise ConfigurationError(f"{name} is not a setting; did you mean {nearest[0]}?")


def explain(error: ValidationError, model: type[BaseModel], prefix: str) -> str:
    """One entry for each invalid value, with the name of its environment variable. The value itself is shown only if it
    belongs to a single setting that is not a secret; the value of a whole section could contain secrets."""
    fields = dict(setting_fields(model, prefix))
    lines: list[str] = []
    for item in error.errors(include_url=False):
        name = prefix + "__".join(str(part) for part in item["loc"]).upper()
        field, value = fields.get(name), item["input"]
        shown = f"={value!r}" if field is not None and may_be_shown(field, value) else ""
        lines.append(f"{name}{shown}: {item['msg']}" if item["loc"] else item["msg"])
    return "; ".join(lines)


def may_be_shown(field: FieldInfo, value: object) -> bool:
    is_secret = SecretStr in (field.annotation, *get_args(field.annotation))
    return not is_secret and not is_section(field) and isinstance(value, str | int | float)
