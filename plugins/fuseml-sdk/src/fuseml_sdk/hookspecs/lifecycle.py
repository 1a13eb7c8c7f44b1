"""Hooks of the life cycle, for plugins of every family."""

from __future__ import annotations

from typing import Any

from fuseml_sdk.hookspecs.marker import hookspec


class LifecycleSpecs:
    """Hooks that every plugin may implement, whatever its family."""

    @hookspec
    def fuseml_configure(self, config: dict[str, Any], state_dir: str) -> None:
        """Take the configuration, once, before any other hook is called.

        A plugin that raises here is not used; its error is shown as the reason. Changed settings start the plugin
        anew, so there is no second call.

        Args:
            config: The settings of the extension by key, validated against `config_schema` of its manifest; secrets
                included, so never log it as a whole.
            state_dir: Absolute path of a private directory that exists, is writable and survives restarts and upgrades.

        Raises:
            InvalidInput: A value is wrong in a way that the schema cannot express.
            NotReady: The back-end is away now; the plugin is started again later.

        Example:
            >>> class Plugin:
            ...     @hookimpl
            ...     def fuseml_configure(self, config, state_dir):
            ...         self.url = config["url"].rstrip("/")
            ...         if not self.url.startswith("https://"):
            ...             raise InvalidInput("url is not https", hint="Set it with: fuseml extension configure")
            >>> plugin = Plugin()
            >>> plugin.fuseml_configure({"url": "https://models.example/"}, "/var/lib/plugin")
            >>> plugin.url
            'https://models.example'
        """

    @hookspec
    def fuseml_health(self) -> dict[str, Any]:
        """Report whether the plugin can do its work; asked for by people and by `/readyz`, not before each call.

        Returns:
            Facts for people, by name; an empty map is fine.

        Raises:
            NotReady: It cannot work now, with the reason.

        Example:
            >>> class Plugin:
            ...     free = 0
            ...     @hookimpl
            ...     def fuseml_health(self):
            ...         if self.free < 1:
            ...             raise NotReady("the disk is full", hint="Delete old versions.")
            ...         return {"free_bytes": self.free}
            >>> Plugin().fuseml_health()
            Traceback (most recent call last):
            fuseml_sdk.errors.NotReady: the disk is full (Delete old versions.)
        """
        return {}

    @hookspec
    def fuseml_shutdown(self) -> None:
        """Release what the plugin holds: connections, threads, files. No other hook is called afterwards.

        It is called when the plugin is ended in order, after the calls in flight; not when its process is killed, so
        nothing may depend on it.

        Example:
            >>> class Plugin:
            ...     def __init__(self):
            ...         self.pool = ["connection"]
            ...     @hookimpl
            ...     def fuseml_shutdown(self):
            ...         self.pool.clear()
            >>> plugin = Plugin()
            >>> plugin.fuseml_shutdown()
            >>> plugin.pool
            []
        """
