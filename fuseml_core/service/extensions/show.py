"""Installed extensions for people and programs."""

from __future__ import annotations

from typing import Any

from fuseml_core.domain.extensions import ExtensionState, Generation, GenerationState, InstalledExtension
from fuseml_core.service.extensions.plan import judge_of, judged, trust_view
from fuseml_core.service.extensions.ports import Bundles, ComponentHost, Generations, InstalledExtensions
from fuseml_core.service.extensions.resting import Resting
from fuseml_core.service.extensions.settings import ExtensionSettings
from fuseml_sdk.permissions import asked_for


class Showing:
    """Puts together what is known about an installed extension.

    Args:
        records: Rows of installed extensions.
        generations: Rows of generations.
        settings: What is set.
        host: The plugin host.
        bundles: Knows what the catalog says.
        resting: Says of which extensions nothing is loaded.
    """

    def __init__(self, records: InstalledExtensions, generations: Generations, settings: ExtensionSettings,
                 host: ComponentHost, bundles: Bundles, resting: Resting) -> None:
        self._records, self._generations, self._settings = records, generations, settings
        self._host, self._bundles, self._resting = host, bundles, resting

    def show(self, record: InstalledExtension, current: Generation | None = None) -> dict[str, Any]:
        """One version.

        Args:
            record: The version.
            current: The generation in force, when the caller knows it.

        Returns:
            `name`, `version`, `digest`, `summary`, `state` (`active`, `disabled`, `safe mode`, `leaving`, `retired`),
            `disabled_since`, `installed_at`, `source`, `components`, `runnables`, `templates`, `permissions`,
            `limits` (see :meth:`ExtensionLimits.view`), `dependencies`, `settings` (secrets as `***`), `requested`,
            `channel`, `trust`.
        """
        rest = self._resting.of(record.name) if record.state is ExtensionState.ACTIVE else None
        manifest = record.manifest
        member = (current or self._generations.current()).member(record.name)
        return {
            "name": record.name, "version": record.version, "digest": record.digest,
            "summary": manifest.get("summary") or "", "state": rest.state if rest else record.state.value,
            "disabled_since": self._resting.since(record.name), "installed_at": record.installed_at,
            "source": record.reference, "components": self._host.state(record),
            "runnables": [runnable["name"] for runnable in record.descriptor.get("runnables") or []],
            "templates": [f"{record.name}/{template['name']}" for template in record.descriptor.get("templates") or []],
            "permissions": [judged(permission, judge_of(manifest, self._host.judge))
                            for permission in asked_for(manifest)],
            "limits": self._settings.limits.view(manifest, self._host.judge_limit),
            "dependencies": record.dependencies,
            "settings": self._settings.shown(record),
            "requested": member.requested if member else True,
            "channel": member.channel if member else "",
            "trust": trust_view(member.trust) if member else None,
        }

    def detail(self, record: InstalledExtension) -> dict[str, Any]:
        """One active version with everything around it.

        Returns:
            As :meth:`show`, and `generation` (the number in force), `since` (the number that brought this version, as
            far as is kept), `dependents`, `versions` (that are here), `config_schema`, `ignored` (settings that this
            version does not use), `advice` (of the catalog) and `trouble` (a newer version that was taken back).
        """
        kept = self._generations.list()
        carrying = [g.number for g in kept if (m := g.member(record.name)) is not None and m.digest == record.digest]
        config = self._settings.show(record.name)
        return self.show(record) | {
            "generation": kept[0].number if kept else 0,
            "since": min(carrying) if carrying else 0,
            "dependents": [other.name for other in self._records.list()
                           if record.name in {dependency["name"] for dependency in other.dependencies}],
            "versions": [version.version for version in self._records.versions(record.name)],
            "config_schema": config["schema"], "ignored": config["ignored"],
            "advice": list(self._bundles.advice(record.reference, record.name, record.version)),
            "trouble": [f"generation {g.number} was taken back: {g.note}" for g in kept
                        if g.state is GenerationState.FAILED and (m := g.member(record.name)) is not None
                        and m.digest != record.digest],
        }
