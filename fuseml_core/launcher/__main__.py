"""The launcher process. `python -m fuseml_core.launcher`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from fuseml_core.domain.errors import Failed, FusemlError
from fuseml_core.launcher.process import LOG_FORMAT
from fuseml_core.launcher.starting import report_error, report_state
from fuseml_core.launcher.supervisor import Supervisor
from fuseml_core.settings import from_environment


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until a signal comes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fuseml_core.launcher", description="Run the FuseML server.")
    parser.add_argument("--report-fd", type=int, default=-1, help="where to say that the server is ready, or why not")
    report = parser.parse_args(arguments).report_fd
    settings = from_environment()
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT, stream=sys.stdout)
    try:
        Supervisor(settings).run(lambda state: report_state(report, state))
    except FusemlError as error:
        logging.getLogger(__name__).error("%s", error)
        report_error(report, error.code, error.message, error.hint, error.details)
        return error.exit_code
    except OSError as error:
        logging.getLogger(__name__).exception("the server cannot run")
        report_error(report, Failed.code, f"The server cannot run: {error}",
                     "Is there space on the disk that holds FUSEML_HOME, and may you write to it?", {})
        return Failed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
