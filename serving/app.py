"""The application, put together."""

from __future__ import annotations

from dataclasses import fields

from litestar import Litestar
from litestar.openapi import OpenAPIConfig

from serving import configuration as settings
from serving import problems, retriever
from serving.chat.controller import UNAVAILABLE, ChatController
from serving.chat.evidence import EvidenceController
from serving.configuration import Configuration
from serving.lifespan import OpenRetriever, Services, lifespan, provider
from serving.operations.figures import OperationsMetricsController
from serving.operations.health import HealthController, version
from serving.operations.requests import Observed
from serving.scrape import MetricsController
from serving.web.pages import PageController, assets
from serving.web.reference import ReferencePlugin


def create_app(
    configuration: Configuration | None = None, open_retriever: OpenRetriever = retriever.open_retriever
) -> Litestar:
    """The chat service as an ASGI application. Raises SettingsError when a setting cannot be used."""
    configuration = configuration or settings.read()
    app = Litestar(
        route_handlers=[
            PageController,
            ChatController,
            EvidenceController,
            HealthController,
            MetricsController,
            OperationsMetricsController,
            assets(),
        ],
        lifespan=[lifespan(configuration, open_retriever)],
        dependencies={field.name: provider(field.name) for field in fields(Services)},
        exception_handlers={**problems.UNEXPECTED, **UNAVAILABLE},
        plugins=[problems.PLUGIN],
        # A character takes up to 12 bytes in JSON (two \\uXXXX).
        request_max_body_size=max(65_536, 12 * configuration.serving.max_message_chars + 4096),
        openapi_config=OpenAPIConfig(
            title=configuration.serving.service_name,
            version=version(),
            description="Answers from the knowledge base, with the passages that they rest on.",
            use_handler_docstrings=True,
            render_plugins=[ReferencePlugin()],
        ),
        logging_config=None,
        debug=False,
    )
    app.asgi_handler = Observed(app.asgi_handler)
    return app
