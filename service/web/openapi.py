"""The OpenAPI 3.1 document, made from the table of operations and the models that check and write every answer."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from service import __version__
from service.web.models import Document, ErrorDocument
from service.web.operations import Operation

_REFERENCE = "#/components/schemas/{model}"
_ERRORS = {
    400: "A parameter is wrong, unknown or repeated; `details` names each.",
    401: "No key, or none that is known.",
    403: "The key lacks the scope.",
    404: "Nothing of that name.",
    503: "The database cannot answer right now.",
}
_DESCRIPTION = (
    "Amounts are decimal strings with their `currency` beside them; times are RFC 3339 in UTC; field names are the "
    "tables' column names. Scopes of a key: `read`, `operate`, `money`, each including the ones before it."
)


def build_document(operations: Sequence[Operation], *, with_keys: bool = True) -> dict[str, Any]:
    """The document as JSON-ready data; without `with_keys`, of an API that asks nobody for a key."""
    models = {model for operation in operations for model in operation.answers.values() if not isinstance(model, tuple)}
    ordered = sorted(models | {ErrorDocument}, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "serialization") for model in ordered], ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, with_keys)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Cuadre", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            **({"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if with_keys else {}),
        },
    }


def document_text(operations: Sequence[Operation], *, with_keys: bool = True) -> str:
    """The document as JSON text."""
    return json.dumps(build_document(operations, with_keys=with_keys), ensure_ascii=False)


def _operation(operation: Operation, with_keys: bool) -> dict[str, Any]:
    answers = {str(status): _answer(status, model) for status, model in operation.answers.items()}
    for status in _error_statuses(operation, with_keys):
        answers[str(status)] = _json_answer(_ERRORS[status], ErrorDocument)
    document: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": dict(sorted(answers.items())),
    }
    if operation.scope is not None and with_keys:
        document["security"] = [{"key": []}]
        document["description"] = f"Needs the scope `{operation.scope}`."
    return document


def _error_statuses(operation: Operation, with_keys: bool) -> list[int]:
    if operation.scope is None:
        return []
    return sorted({400, 503, *operation.errors} | ({401, 403} if with_keys else set()))


def _answer(status: int, model: type[Document] | tuple[str, ...]) -> dict[str, Any]:
    meaning = {200: "Done.", 202: "Marked due.", 503: "No."}[status]
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
