"""The base class of the sections, and the check they share.

A check that needs two keys belongs to the later key, because pydantic passes it the earlier keys
that are valid. So one run finds every problem, and reports each one under its own key.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from bridge.settings.types import Password, WrongValue

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Section(BaseModel):
    """The base of all sections: closed, frozen, and without values in error texts."""

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
            raise WrongValue("is empty", "write it to its file or Secret, or remove the setting")
        return value


def check_key(value: Any, info: ValidationInfo, section: str) -> Any:
    """Return the value if certificate and key are both set or both missing, and if a key password
    comes with a key. Raises WrongValue otherwise.
    """
    fields = info.data
    if info.field_name == "key_password":
        if value is not None and fields.get("key_file", value) is None:
            raise WrongValue(
                f"has no effect without {section}.key_file", "set both, or remove both"
            )
    elif value is None and fields.get("cert_file"):
        raise WrongValue(
            f"is missing: {section}.cert_file is set", "set the path of its private key"
        )
    elif value is not None and fields.get("cert_file", value) is None:
        raise WrongValue(f"has no effect without {section}.cert_file", "set both, or remove both")
    return value
