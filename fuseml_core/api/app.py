"""The HTTP API of the control process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from fuseml_core import __version__
from fuseml_core.api import problems
from fuseml_core.api.routers import (
    artifacts,
    changes,
    contracts,
    development,
    extension_care,
    extensions,
    internal,
    marketplaces,
    pipelines,
    plugins,
    projects,
    runs,
    server,
    services,
    trust,
)
from fuseml_core.bootstrap import bootstrap
from fuseml_core.settings import Settings

#: Requests that may be worked on at once; followers of changes hold one each while they wait.
THREADS = 200


def create_app(settings: Settings) -> FastAPI:
    """Make the application of the control process; the engine starts and stops with it.

    Args:
        settings: Where everything lies.
    """
    application = bootstrap(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await anyio.to_thread.run_sync(application.start)
        yield
        await anyio.to_thread.run_sync(application.stop)

    app = FastAPI(
        title="FuseML",
        version=__version__,
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.application = application
    problems.install(app)
    for router in (server, projects, artifacts, pipelines, runs, changes, services, extensions, extension_care,
                   marketplaces, trust, plugins, development, contracts):
        app.include_router(router.router, prefix="/api/v1")
    app.include_router(plugins.metrics_router)
    app.include_router(internal.router)
    return app
