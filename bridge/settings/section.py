"""What the sections of the settings share.

A check that needs two keys belongs to the later one: pydantic hands it the earlier ones that are
valid. So one run finds every problem, and each is reported under its own key.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from bridge.settings.types import Password, WrongValue

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Section(BaseModel):
    """What all sections have in common: closed, frozen, and silent about the values in errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @field_validator("*")
    @classmethod
    def _no_empty_password(cls, value: Any) -> Any:
        if isinstance(value, Password) and not value.get_secret_value():
            raise WrongValue("is empty", "put it into the file or Secret it is from, or remove it")
        return value


def check_key(value: Any, info: ValidationInfo, section: str) -> Any:
    """Demand that a certificate and its key come together, and a password with its key."""
    fields = info.data
    if info.field_name == "key_password":
        if value is not None and fields.get("key_file", value) is None:
            raise WrongValue("has no use without a key", f"name {section}.key_file, or remove it")
    elif value is None and fields.get("cert_file"):
        raise WrongValue(
            f"is missing: {section}.cert_file is set", "name the file of its private key"
        )
    elif value is not None and fields.get("cert_file", value) is None:
        raise WrongValue(f"has no use without {section}.cert_file", "name both, or neither")
    return value
