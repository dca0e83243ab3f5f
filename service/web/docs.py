"""`/docs`: the OpenAPI document as one page that loads nothing and runs no script."""

import json
from html import escape
from typing import Any

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24;background:#fff}
h2{font-size:1.05rem;margin:2.2rem 0 .3rem}code,pre{font-family:ui-monospace,monospace;font-size:.9em}
.method{display:inline-block;min-width:3.2rem;font-weight:700;color:#0550ae}.post{color:#1a7f37}
table{border-collapse:collapse;width:100%;margin:.4rem 0}td,th{text-align:left;padding:.25rem .6rem .25rem 0;
border-bottom:1px solid #d8dee4;vertical-align:top}pre{overflow:auto;background:#f6f8fa;padding:.8rem}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}pre{background:#161b22}.method{color:#79c0ff}
.post{color:#7ee787}td,th{border-color:#30363d}a{color:#79c0ff}}
"""


def render_page(document: dict[str, Any]) -> str:
    """The page for a document that `openapi.build_document` made."""
    info = document["info"]
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    schemas = "".join(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1><p>{_text(info['description'])}</p>"
        '<p>For machines: <a href="/openapi.json">openapi.json</a></p>'
        f"<main>{operations}<h1>Objects</h1>{schemas}</main></body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
        f"<td>{_text(one.get('description', ''))} <code>{escape(json.dumps(one['schema']))}</code></td></tr>"
        for one in operation["parameters"]
    )
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{_text(answer['description'])}</td><td>{_carries(answer)}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    if "requestBody" in operation:
        rows += f"<tr><td>body</td><td>body</td><td>{_carries(operation['requestBody'])}</td></tr>"
    parameters = f"<table><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr>{rows}</table>" if rows else ""
    return (
        f'<section id="{escape(operation["operationId"])}"><h2><span class="method {escape(method)}">'
        f"{escape(method.upper())}</span> <code>{escape(path)}</code></h2>"
        f"<p>{_text(operation['summary'])}. {_text(operation.get('description', 'Needs no key.'))}</p>{parameters}"
        f"<table><tr><th>Answer</th><th>Meaning</th><th>Carries</th></tr>{answers}</table></section>"
    )


def _carries(answer: dict[str, Any]) -> str:
    """What an answer or a request carries: documents by their names, else media types, or nothing."""
    shown = []
    for media_type, content in answer.get("content", {}).items():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        shown.append(f'<a href="#schema-{escape(name)}">{escape(name)}</a>' if name else escape(media_type))
    return ", ".join(shown)


def _schema(name: str, schema: dict[str, Any]) -> str:
    text = escape(json.dumps(schema, indent=1, ensure_ascii=False))
    return (
        f'<section id="schema-{escape(name)}"><h2>{escape(name)}</h2><p>{_text(schema.get("description", ""))}</p>'
        f"<details><summary>JSON Schema</summary><pre>{text}</pre></details></section>"
    )


def _text(text: str) -> str:
    """Escaped, with `code` between back-quotes."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
