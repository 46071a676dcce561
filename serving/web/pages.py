"""The chat page and its files. Nothing is loaded from elsewhere, and the page is not allowed to."""

from __future__ import annotations

import functools
import hashlib
import html
from pathlib import Path

from litestar import Controller, MediaType, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency
from litestar.router import Router
from litestar.static_files import create_static_files_router

from serving.configuration import Configuration
from zhiyun.settings import KnowledgeSettings

_FILES = Path(__file__).parent / "static"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def assets() -> Router:
    """The page's files, at an address that changes with them: a browser may keep them for a year."""
    return create_static_files_router(
        path=assets_path(),
        directories=[_FILES],
        cache_control=CacheControlHeader(max_age=31_536_000, public=True, immutable=True),
        include_in_schema=False,
    )


def _is_sample(knowledge: KnowledgeSettings) -> bool:
    return knowledge.sources == KnowledgeSettings.model_fields["sources"].default


def assets_path() -> str:
    """Where the page's files are: `/static/` and a hash of them."""
    return f"/static/{_version()}"


@functools.cache
def _version() -> str:
    digest = hashlib.sha256()
    for file in sorted(_FILES.iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


class PageController(Controller):
    path = "/"
    include_in_schema = False

    @get("/", sync_to_thread=True)
    def page(self, configuration: NamedDependency[Configuration]) -> Response[str]:
        """The chat page."""
        serving = configuration.serving
        values = {
            "service_name": serving.service_name,
            "max_message_chars": str(serving.max_message_chars),
            "starters": serving.starters,
            "sample": str(_is_sample(configuration.knowledge)).lower(),
            "assets": assets_path(),
        }
        page = (_FILES / "index.html").read_text(encoding="utf-8")
        for name, value in values.items():
            page = page.replace(f"{{{{{name}}}}}", html.escape(value))
        return Response(
            page,
            media_type=MediaType.HTML,
            headers={"content-security-policy": _POLICY, "cache-control": "no-cache"},
        )
