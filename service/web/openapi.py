"""The OpenAPI 3.1 document, made from the table of operations and the models that check and write every answer."""

import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from service import __version__
from service.web.bodies import KEY_HEADER, KEY_PATTERN, Body
from service.web.models import Document, ErrorDocument
from service.web.operations import Carried, Operation

_REFERENCE = "#/components/schemas/{model}"
_WRITTEN: Final[JsonSchemaMode] = "serialization"
_READ: Final[JsonSchemaMode] = "validation"
_ERRORS = {
    400: "A parameter is wrong, unknown or repeated; `details` names each.",
    401: "No key, or none that is known.",
    403: "The key lacks the scope.",
    404: "Nothing of that name.",
    409: "Not in this state, or the `Idempotency-Key` was used for another request.",
    413: "The body is too large.",
    429: "The key commands faster than it may; nothing was done. `Retry-After` says when to send it again.",
    503: "The database cannot answer right now.",
}
_MEANINGS = {200: "Done.", 202: "Marked due.", 503: "No."}
_DESCRIPTION = (
    "Amounts are decimal strings with their `currency` beside them; times are RFC 3339 in UTC; field names are the "
    "tables' column names. Scopes of a key: `read`, `operate`, `money`, each including the ones before it. Commands "
    "need a key of scope `money` also where reading is open to all. A command's `Idempotency-Key` makes it one: the "
    "same key and request give the same answer for ever, 202 meanwhile; another request under it is refused (409)."
)
_COMMAND_ERRORS = (413, 429)


def build_document(operations: Sequence[Operation], *, with_keys: bool = True) -> dict[str, Any]:
    """The document as JSON-ready data; without `with_keys`, of an API that asks nobody for a key."""
    answers = {model for operation in operations for model in operation.answers.values() if isinstance(model, type)}
    bodies = {operation.body for operation in operations if operation.body is not None}
    ordered = [
        *((model, _WRITTEN) for model in sorted(answers | {ErrorDocument}, key=_name)),
        *((model, _READ) for model in sorted(bodies, key=_name)),
    ]
    _, schemas = models_json_schema(ordered, ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, with_keys)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Cuadre", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def document_text(document: dict[str, Any]) -> str:
    """The document as JSON text."""
    return json.dumps(document, ensure_ascii=False)


def _operation(operation: Operation, with_keys: bool) -> dict[str, Any]:
    with_key = operation.scope is not None and (with_keys or operation.commands)
    answers = {str(status): _answer(operation, status, model) for status, model in operation.answers.items()}
    for status in _error_statuses(operation, with_key):
        answers.setdefault(str(status), _json_answer(_ERRORS[status], ErrorDocument))
    document: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_header_parameters(operation)],
        "responses": dict(sorted(answers.items())),
    }
    if operation.body is not None:
        document["requestBody"] = _request_body(operation.body)
    if with_key:
        document["security"] = [{"key": []}]
        document["description"] = f"Needs the scope `{operation.scope}`."
    return document


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _error_statuses(operation: Operation, with_key: bool) -> list[int]:
    if operation.scope is None:
        return []
    statuses = {400, 503, *operation.errors} | ({401, 403} if with_key else set())
    return sorted(statuses.union(_COMMAND_ERRORS if operation.commands else ()))


def _answer(operation: Operation, status: int, model: Carried) -> dict[str, Any]:
    meaning = operation.meanings.get(status) or _MEANINGS[status]
    if model is None:
        return {"description": meaning}
    if isinstance(model, tuple):
        return {"description": meaning, "content": {media_type: {"schema": {"type": "string"}} for media_type in model}}
    return _json_answer(meaning, model)


def _json_answer(meaning: str, model: type[Document]) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": parameter.name,
            "in": "path",
            "required": True,
            "description": parameter.meaning,
            "schema": {"type": "string", "pattern": parameter.pattern},
        }
        for parameter in operation.path_parameters
    ]


def _header_parameters(operation: Operation) -> list[dict[str, Any]]:
    if not operation.keyed:
        return []
    return [
        {
            "name": KEY_HEADER,
            "in": "header",
            "required": True,
            "description": "yours, one per intent; the same at every repeat",
            "schema": {"type": "string", "pattern": KEY_PATTERN, "maxLength": 128},
        }
    ]


def _request_body(model: type[Body]) -> dict[str, Any]:
    required = model.MUST_BE_SENT or any(field.is_required() for field in model.model_fields.values())
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    """A query string's model as parameters; "or null" is left out, because a query string has no null."""
    properties: dict[str, dict[str, Any]] = operation.parameters.model_json_schema().get("properties", {})
    return [_query_parameter(name, schema) for name, schema in properties.items()]


def _query_parameter(name: str, found: dict[str, Any]) -> dict[str, Any]:
    schema = {key: value for key, value in found.items() if key not in {"description", "title", "anyOf"}}
    if "anyOf" in found:
        schema |= next(one for one in found["anyOf"] if one != {"type": "null"})
    if schema.get("default", 0) is None:
        del schema["default"]
    meaning = found.get("description") or schema.pop("description", None)
    parameter = {"name": name, "in": "query", "required": False, "schema": schema}
    return parameter | ({"description": meaning} if meaning else {})
