"""Checks of the machine and the installation: what is wrong, why, and what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from fuseml_core.domain.errors import Invalid
from fuseml_core.service.extensions.care_ports import Check, CheckState, Examination

log = logging.getLogger(__name__)


class Doctor:
    """The use case *doctor*.

    Args:
        examinations: In the order in which they are made and shown.
    """

    def __init__(self, examinations: Sequence[Examination]) -> None:
        self._examinations = examinations

    def examine(self, *, fix: bool = False, only: Sequence[str] = ()) -> dict[str, Any]:
        """Make all checks, or some.

        Args:
            fix: Do what the fixes say where that cannot do harm, and check again.
            only: Ids of checks.

        Returns:
            `ok` (no check ended with an error) and `checks`.

        Raises:
            Invalid: There is no check of this id.
        """
        known = {examination.id for examination in self._examinations}
        for wanted in only:
            if wanted not in known:
                raise Invalid(f"there is no check {wanted!r}", hint=f"There are {', '.join(sorted(known))}.")
        checks = [self._make(examination, fix) for examination in self._examinations
                  if not only or examination.id in only]
        return {"ok": not any(check.state is CheckState.ERROR for check in checks),
                "checks": [asdict(check) for check in checks]}

    def _make(self, examination: Examination, fix: bool) -> Check:
        check = _guarded(examination)
        if not fix or examination.repair is None or check.state not in (CheckState.WARNING, CheckState.ERROR):
            return check
        try:
            done = examination.repair()
        except Exception as error:
            log.exception("fixing %s", examination.id)
            return replace(check, reason=f"{check.reason}; fixing it failed: {error}")
        again = _guarded(examination)
        healthy = again.state in (CheckState.OK, CheckState.SKIPPED)
        return replace(again, reason=f"{again.reason} ({done})", fixed=healthy)


def _guarded(examination: Examination) -> Check:
    """A check that itself fails says so, and the others go on."""
    try:
        return examination.examine()
    except Exception as error:
        log.warning("the check %s failed", examination.id, exc_info=True)
        return Check(examination.id, CheckState.ERROR, f"the check itself failed: {type(error).__name__}: {error}",
                     "See: fuseml server logs")
