"""What the documents that edgeq writes for machines have in common."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A table of one: frozen, without unknown keys, NaN or infinity."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        json_schema_serialization_defaults_required=True,
    )
