"""Who is trusted: the policy of this server, what it decides about a bundle, and signing with the server's own key."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol

from fuseml_core.service.extensions.ports import Bundles, Wish


class Signer(Protocol):
    """The key of the embedded registry."""

    def sign(self, reference: str) -> dict[str, Any]:
        """Sign `repository@digest` in the embedded registry.

        Returns:
            `reference`, `key` (fingerprint) and `signatures`.

        Raises:
            Invalid: It is not of this form.
            NotFound: There is no such manifest.
            Refused: The server has no key that it may use.
        """
        ...


class PolicyFile(Protocol):
    """The file with the rules."""

    def show(self) -> dict[str, Any]:
        """`path` and `rules`; raises Invalid or NotFound when it cannot be read."""
        ...

    def check(self, reference: str) -> dict[str, Any] | None:
        """The refusal of a place that a rule rejects whatever lies there, as :meth:`Trust.check` shows it."""
        ...


class Trust:
    """Show the trust policy, ask what it decides, sign what lies in the embedded registry.

    Args:
        bundles: Registries, and the policy about them.
        signer: The key of the embedded registry.
        policy: The file with the rules.
    """

    def __init__(self, bundles: Bundles, signer: Signer, policy: PolicyFile) -> None:
        self._bundles, self._signer, self._policy = bundles, signer, policy

    def sign(self, reference: str) -> dict[str, Any]:
        """Sign a bundle of the embedded registry; see :class:`Signer`."""
        return self._signer.sign(reference)

    def policy(self) -> dict[str, Any]:
        """The policy file and its rules, in order."""
        return self._policy.show()

    def check(self, reference: str, wish: Wish | None = None) -> dict[str, Any]:
        """What would be decided about a bundle now; nothing is installed and a refusal is no error.

        Args:
            reference: As for an installation.
            wish: Which versions may be chosen.

        Returns:
            `reference`, `name`, `version`, `digest`, and the decision: `allowed`, `rule`, `reason`, `hint`,
            `signers`, `attestations`, `overridable`.

        Raises:
            Invalid, NotFound, Unavailable, Failed: The bundle cannot be looked up.
        """
        checked = self._policy.check(reference)
        if checked is None:
            wish = wish or Wish()
            found = self._bundles.find(reference, wish)
            checked = {"reference": found.reference, "name": found.name, "version": found.version,
                       "digest": found.digest, **asdict(self._bundles.decide(found, wish))}
        checked.pop("overridden")
        return checked
