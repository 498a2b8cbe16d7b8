"""Structured logs on standard error: JSON for machines, columns for people in a terminal."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict

from bridge import settings

# These libraries log each attempt in their own words. We report the same events ourselves.
_QUIET_LIBRARIES = ("aiokafka", "websockets", "asyncio", "aiohttp")


def configure(options: settings.Log) -> None:
    """Set up structlog, and the standard library's logging with the same formatter."""
    as_json = options.format == "json" or (options.format == "auto" and not sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[options.level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            *_rendering(as_json=as_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(as_json=as_json),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _rendering(*, as_json: bool) -> list[Any]:
    if as_json:
        renderer = structlog.processors.JSONRenderer()
        return [structlog.processors.format_exc_info, _readable, renderer]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]


def _readable(_logger: Any, _method: str, entry: EventDict) -> EventDict:
    """Put first what people look for first."""
    head = {key: entry.pop(key) for key in ("timestamp", "level", "event")}
    return head | dict(entry)
