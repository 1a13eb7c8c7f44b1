"""Extensions: install, upgrade, roll back, list, inspect, configure, uninstall."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from fuseml_core.api.progress import streamed
from fuseml_core.domain.errors import Invalid
from fuseml_core.service.extensions import Extensions, Options
from fuseml_core.service.extensions.ports import Wish

router = APIRouter(tags=["extensions"])


class Choice(BaseModel):
    """How a change of the extensions is made."""

    dry_run: bool = Field(False, description="only say what would be done")
    force: bool = Field(False, description="change also what pipelines or other extensions use")
    allow_unsigned: bool = Field(False, description="install also what nobody signed whom the policy knows")
    channel: str = Field("", max_length=100, pattern=r"^([a-z0-9][a-z0-9._-]*)?$", description="of a catalog; by "
                         "default the one that the marketplace or the package prefers")
    prereleases: bool = Field(False, description="take pre-releases also where there are releases")
    offline: bool = Field(False, description="ask nothing but this server")
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict, description="values to set, by extension")

    def options(self) -> Options:
        """The same for the use cases."""
        return Options(Wish(self.channel, self.prereleases, self.offline), allow_unsigned=self.allow_unsigned,
                       dry_run=self.dry_run, force=self.force, settings=self.settings)


class Installation(Choice):
    """Which bundles to install."""

    references: list[str] = Field(default_factory=list, max_length=200, description="`mlflow`, `mlflow:0.1.0` or "
                                  "`oci://host/namespace/name:tag@digest`; with a lock: names in it")
    locked: str = Field("", description="a fuseml.lock: install exactly this")


class Upgrade(Choice):
    """What to upgrade."""

    names: list[str] = Field(default_factory=list, max_length=1000)
    all: bool = Field(False, description="everything that is installed")


class Rollback(Choice):
    """Where to go back to."""

    to: int | None = Field(None, ge=1, description="number of a generation; by default the one before")


class SettingsChange(BaseModel):
    """Settings to set, typed or as text, settings to unset, and limits."""

    set: dict[str, Any] = Field(default_factory=dict, description="key to value; text becomes what the schema says")
    unset: list[str] = Field(default_factory=list, description="keys that shall have no value any more")
    limits: dict[str, str | int | None] = Field(default_factory=dict, description="limit to number or quantity such "
                                                "as 512Mi; null drops what was set")


@router.get("/extensions")
def list_extensions(request: Request) -> list[dict[str, Any]]:
    """The installed extensions by name."""
    return _extensions(request).list()


@router.post("/extensions", response_class=StreamingResponse)
def install_extensions(request: Request, wanted: Installation) -> StreamingResponse:
    """Install or upgrade; answers lines of JSON: progress, then the result or an error (a problem document).

    The result has `plan`, `generation` and `extensions`. The installation goes on when the client goes away.
    """
    extensions, options = _extensions(request), wanted.options()
    references = [reference.strip() for reference in wanted.references]
    if wanted.locked:
        return streamed("install", lambda say: extensions.install_locked(wanted.locked, references, options, say))
    if not references or not all(0 < len(reference) <= 1000 for reference in references):
        raise Invalid("nothing is named that could be installed", hint="Name bundles in `references`, or send a lock.")
    return streamed("install", lambda say: extensions.install(references, options, say))


@router.get("/extension-generations")
def list_generations(request: Request) -> list[dict[str, Any]]:
    """The sets of extensions that were active together, as far as they are kept, the newest first."""
    return list(_extensions(request).history())


@router.post("/extension-generations/upgrade", response_class=StreamingResponse)
def upgrade_extensions(request: Request, wanted: Upgrade) -> StreamingResponse:
    """Upgrade as far as everything installed can live with it; answers as installing does."""
    if bool(wanted.names) == wanted.all:
        raise Invalid("either names or `all` is needed to upgrade")
    return streamed("upgrade", lambda say: _extensions(request).upgrade(wanted.names, wanted.options(), say))


@router.post("/extension-generations/rollback", response_class=StreamingResponse)
def roll_back_extensions(request: Request, wanted: Rollback) -> StreamingResponse:
    """Put an earlier generation in force again; answers as installing does."""
    return streamed("rollback", lambda say: _extensions(request).rollback(wanted.to, wanted.options(), say))


@router.get("/extension-lock")
def get_lock(request: Request) -> dict[str, str]:
    """What is installed: `lock` is the text of a `fuseml.lock`."""
    return {"lock": _extensions(request).lock()}


@router.get("/extensions/{name}")
def get_extension(request: Request, name: str) -> dict[str, Any]:
    """One installed extension."""
    return _extensions(request).get(name)


@router.get("/extensions/{name}/config")
def get_config(request: Request, name: str) -> dict[str, Any]:
    """The settings of an extension, secrets as `***`, and the schema that says which there are."""
    return _extensions(request).config(name)


@router.put("/extensions/{name}/config")
def configure_extension(request: Request, name: str, change: SettingsChange) -> dict[str, Any]:
    """Change settings; answers like GET once the extension works with them."""
    return _extensions(request).configure(name, change.set, change.unset, change.limits)


@router.post("/extensions/{name}/disable")
def disable_extension(request: Request, name: str) -> dict[str, Any]:
    """Load and offer nothing of an extension any more; answers like GET, and `notes`: what goes on all the same."""
    return _extensions(request).disable(name)


@router.post("/extensions/{name}/enable")
def enable_extension(request: Request, name: str) -> dict[str, Any]:
    """Load an extension again; answers like GET once its components work."""
    return _extensions(request).enable(name)


@router.delete("/extensions/{name}")
def uninstall_extension(
    request: Request, name: str, force: bool = False, prune: bool = False, dry_run: bool = False,
    drain: Annotated[float, Query(ge=0, le=86_400, description="seconds to wait for what goes on with it")] = 0.0,
) -> dict[str, Any]:
    """Uninstall; refused while extensions, pipelines or workloads use it, unless forced or drained.

    Answers `plan` and `generation`.
    """
    options = Options(force=force, dry_run=dry_run)
    return _extensions(request).uninstall(name.split(","), options, prune=prune, drain=drain)


def _extensions(request: Request) -> Extensions:
    extensions: Extensions = request.app.state.application.extensions
    return extensions
