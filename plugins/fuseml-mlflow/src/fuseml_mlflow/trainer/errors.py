"""The one error of the trainer."""

from __future__ import annotations


class TrainingError(Exception):
    """Training cannot go on; the message says what was wrong and what to do."""
