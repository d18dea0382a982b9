"""launch.py without a process of its own, where that is not what is tested."""

import contextlib
import io
import logging
import os
from unittest import mock

import launch


def main(*arguments) -> tuple[int, str]:
    """(exit code, what it printed to stderr); log levels and environment stay."""
    loggers = [logging.getLogger(name) for name in ("nas_jax", "absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    errors = io.StringIO()
    with mock.patch.dict(os.environ), contextlib.redirect_stderr(errors):
        try:
            code = launch.main(["launch.py", *map(str, arguments)])
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
    return code, errors.getvalue()
