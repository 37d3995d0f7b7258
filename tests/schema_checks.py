"""Documents of real commands against the schemas that are made of their classes, by jsonschema."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema

from edge_tl.schemas import schema


@cache
def validator(name: str, closed: bool = False) -> jsonschema.Draft202012Validator:
    """closed: objects may have only the keys that the schema describes."""
    return jsonschema.Draft202012Validator(shut(schema(name)) if closed else schema(name))


def shut(schema: Any) -> Any:
    """The schema with additionalProperties false wherever properties are listed."""
    if isinstance(schema, list):
        return [shut(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: shut(value) for key, value in schema.items()}
    return {"additionalProperties": False, **inner} if isinstance(schema.get("properties"), dict) else inner


def valid(name: str, document: Any) -> bool:
    return validator(name).is_valid(document)


def assert_fits(name: str, *documents: Any) -> None:
    """Each passes, also where no key may be in it that its class does not have."""
    for document in documents:
        for closed in (False, True):
            faults = [f"{e.json_path}: {e.message[:300]}" for e in validator(name, closed).iter_errors(document)]
            assert faults == [], name
