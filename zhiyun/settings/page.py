"""`docs/configuration.md`, written from the settings themselves (`zhiyun configuration`); a test keeps it current."""

from __future__ import annotations

from zhiyun.settings.fields import extra, variable_name
from zhiyun.settings.loading import ALL


def configuration_markdown() -> str:
    """`docs/configuration.md`: a table of every variable, by concern."""
    lines = [
        "# Configuration",
        "",
        "Every setting is an environment variable; a `.env` file in the working directory is read too, and the environment",
        "wins over it. A wrong value stops the start with one line that names the variable.",
        "This page is generated: `.venv/bin/zhiyun configuration > docs/configuration.md`.",
    ]
    for model in ALL:
        lines += ["", f"## {model.__name__.removesuffix('Settings')}", "", (model.__doc__ or "").strip(), ""]
        lines += ["| variable | default | unit | meaning |", "|---|---|---|---|"]
        for field, info in model.model_fields.items():
            default = f"`{info.default}`" if info.default != "" else "(empty)"
            unit = extra(model, field).get("unit", "")
            lines.append(f"| `{variable_name(model, field)}` | {default} | {unit} | {info.description} |")
    return "\n".join(lines) + "\n"
