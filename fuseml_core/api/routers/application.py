"""How routes reach the use cases."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from fuseml_core.service.application import Application


def application_of(request: Request) -> Application:
    """The application behind a request."""
    found: Application = request.app.state.application
    return found


#: Parameter type of routes that need the use cases.
App = Annotated[Application, Depends(application_of)]
