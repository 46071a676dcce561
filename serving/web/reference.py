"""The API's documentation as a page that needs nothing from elsewhere: Litestar's own load from a CDN."""

from __future__ import annotations

import html
import json
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

from serving.web.pages import assets_path

_METHODS = ("get", "post", "put", "patch", "delete")


class ReferencePlugin(OpenAPIRenderPlugin):
    """Renders `/schema`; the machine-readable form is `/schema/openapi.json`."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        schema = json.loads(self.render_json(request, openapi_schema))
        information = schema["info"]
        title = html.escape(f"{information['title']} API {information['version']}")
        parts = [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            '<meta name=viewport content="width=device-width, initial-scale=1">',
            f'<title>{title}</title><link rel=stylesheet href="{assets_path()}/style.css">',
            "<body class=reference><main>",
            f"<h1>{title}</h1><p>{html.escape(information.get('description', ''))}</p>",
            '<p><a href="/schema/openapi.json">openapi.json</a> · <a href="/">chat</a></p>',
        ]
        for path, item in schema["paths"].items():
            parts += [_operation(method, path, item[method]) for method in _METHODS if method in item]
        parts.append("<h2>Schemas</h2>")
        for name, shape in sorted(schema.get("components", {}).get("schemas", {}).items()):
            parts.append(f"<details id={html.escape(json.dumps(name))}><summary>{html.escape(name)}</summary>")
            parts.append(f"<pre>{_json(shape)}</pre></details>")
        return "".join(parts).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    summary = html.escape(operation.get("summary", ""))
    heading = f"<code>{method.upper()} {html.escape(path)}</code>"
    parts = [f"<section><h2>{heading}</h2><p><strong>{summary}</strong></p>"]
    if description := operation.get("description"):
        parts.append(f"<p>{html.escape(description)}</p>")
    for parameter in operation.get("parameters", []):
        need = "required" if parameter.get("required") else "optional"
        parts.append(
            f"<p><code>{html.escape(parameter['name'])}</code> in {parameter['in']}, {need}: "
            f"<code>{_json(parameter.get('schema', {}), None)}</code></p>"
        )
    if body := operation.get("requestBody"):
        parts.append(f"<details><summary>Request body</summary><pre>{_json(body.get('content'))}</pre></details>")
    for status, response in operation.get("responses", {}).items():
        said = html.escape(response.get("description", ""))
        parts.append(f"<details><summary>{html.escape(status)} {said}</summary>")
        parts.append(f"<pre>{_json(response.get('content', {}))}</pre></details>")
    return "".join([*parts, "</section>"])


def _json(value: Any, indent: int | None = 2) -> str:
    return html.escape(json.dumps(value, indent=indent, ensure_ascii=False))
