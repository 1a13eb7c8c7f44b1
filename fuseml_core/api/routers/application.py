"""How routes reach the use cases."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from fuseml_core.service.use_cases import UseCases


def application_of(request: Request) -> UseCases:
    """The application behind a request."""
    found: UseCases = request.app.state.application
    return found


#: Parameter type of routes that need the use cases.
App = Annotated[UseCases, Depends(application_of)]
