"""The application: every use case, put together by the composition root, used by the API."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fuseml_core.service.artifacts import Artifacts
from fuseml_core.service.codesets import Codesets
from fuseml_core.service.contracts import Contracts
from fuseml_core.service.development import Development
from fuseml_core.service.extensions import Extensions
from fuseml_core.service.extensions.care import ExtensionCare
from fuseml_core.service.extensions.trust import Trust
from fuseml_core.service.manual_runs import ManualRuns
from fuseml_core.service.marketplaces import Marketplaces
from fuseml_core.service.pipeline_updates import PipelineUpdates
from fuseml_core.service.pipelines import Pipelines
from fuseml_core.service.plugins import Plugins
from fuseml_core.service.projects import Projects
from fuseml_core.service.runs import Runs
from fuseml_core.service.services import Services


@dataclass(frozen=True)
class UseCases:
    """Use cases by noun, and the life of the engine behind them.

    Attributes:
        projects, codesets, artifacts, pipelines, pipeline_updates, runs, manual_runs, services, extensions,
            marketplaces, trust: By noun.
        care: Looking after extensions.
        plugins: Looking at plugins.
        development: Plugins that their authors run.
        contracts: What plugins and the server speak.
        describe: Facts about the server.
        start: Begin to work: migrate, load extensions, start the engine.
        stop: End in order; workloads go on.
        activity: Names of running jobs.
        stop_workloads: Stop services, and jobs too when asked; both start again with the server. Returns what goes on
            all the same: `name`, `agent` and `reason` of each.
        alive: Whether the engine's loop moves.
    """

    projects: Projects
    codesets: Codesets
    artifacts: Artifacts
    pipelines: Pipelines
    pipeline_updates: PipelineUpdates
    runs: Runs
    manual_runs: ManualRuns
    services: Services
    extensions: Extensions
    care: ExtensionCare
    trust: Trust
    marketplaces: Marketplaces
    plugins: Plugins
    development: Development
    contracts: Contracts
    describe: Callable[[], dict[str, Any]]
    start: Callable[[], None]
    stop: Callable[[], None]
    activity: Callable[[], list[str]]
    stop_workloads: Callable[[bool], list[dict[str, str]]]
    alive: Callable[[], bool]
    started_at: float = field(default_factory=time.time)
