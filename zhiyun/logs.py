"""Logs as JSON lines: `app.log`, `access.log` and `error.log` below LOG_DIR (operators' manual, section 1.3).

Several processes append to the same files, and logrotate may move them away at any time: every line is
one write to a file opened for appending, and the next line after a rotation lands in the new file.
Message bodies and secrets are never handed to a logger; what still looks like a credential is blanked as
a last resort.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from zhiyun.settings import LogSettings, SettingsError

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

ACCESS = "zhiyun.access"
"""The logger of requests: one line each, in `access.log` only."""

# Chatty libraries: one line for each call they make, with addresses and parameters in it.
_QUIET = ("httpx", "httpcore", "urllib3", "qdrant_client", "sentence_transformers", "transformers", "asyncio")
_SECRETS = (
    (re.compile(r"(://[^\s:/@]*):[^\s@/]+@"), r"\1:***@"),
    (re.compile(r"(?i)\b(bearer|api-key:?)\s+[^\s\"',]+"), r"\1 ***"),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{8,}"), "sk-***"),
)


class _LineFile(WatchedFileHandler):
    """Appends each line with one write, so that processes never mix theirs. Never fails its caller."""

    _complained = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            self.reopenIfNeeded()
            if self.stream is None:  # the last attempt to reopen it failed
                self.stream = self._open()
                self._statstream()
            os.write(self.stream.fileno(), line)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        if time.monotonic() - self._complained > 60:
            self._complained = time.monotonic()
            reason = sys.exc_info()[1]
            print(f"LOG_DIR: {self.baseFilename} cannot be written: {reason}", file=sys.stderr)


class _Console(logging.StreamHandler[TextIO]):
    """Standard error, told apart from handlers that others have put on the root logger."""


def configure(service: str, settings: LogSettings, *, console: bool = True) -> None:
    """Send every logger of this process, structlog's and the standard library's, to the three files.

    `service` is written into each line. With `console`, what goes to `app.log` goes to standard error too.
    Raises SettingsError (one line that names LOG_DIR) when the folder cannot be written. May be called again.
    """
    import structlog  # here, for it takes long to load, and who only blanks secrets writes no log

    folder = Path(settings.dir).expanduser()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _of_service(service),
            structlog.processors.format_exc_info,
            _without_secrets,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        app, access, error = (
            _LineFile(folder / f"{name}.log", encoding="utf-8") for name in ("app", "access", "error")
        )
    except OSError as problem:
        raise SettingsError(
            f"LOG_DIR={settings.dir}: log files cannot be written there ({problem.strerror or problem}); "
            "set it to a folder that this user may write. Nothing was started."
        ) from None
    error.setLevel(logging.ERROR)
    handlers: list[logging.Handler] = [app, error]
    if console:
        handlers.append(_Console(sys.stderr))
    for handler in (*handlers, access):
        handler.setFormatter(formatter)
    _replace(logging.getLogger(), handlers, settings.level)
    _replace(logging.getLogger(ACCESS), [access], settings.level)
    logging.getLogger(ACCESS).propagate = False
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _shared() -> list[Processor]:
    import structlog

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]


def _of_service(service: str) -> Callable[[Any, str, EventDict], EventDict]:
    def add(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {
            "time": event.pop("time", None),
            "level": event.pop("level", None),
            "service": service,
            "pid": os.getpid(),
            "logger": event.pop("logger", None),
            "event": event.pop("event", None),
            **event,
        }

    return add


def without_secrets(text: str) -> str:
    """The text with passwords in URLs, bearer tokens and API keys blanked."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _without_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {key: without_secrets(value) if isinstance(value, str) else value for key, value in event.items()}


def _replace(logger: logging.Logger, handlers: list[logging.Handler], level: str) -> None:
    for old in list(logger.handlers):
        if isinstance(old, _LineFile | _Console):
            logger.removeHandler(old)
            old.close()
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(level)
