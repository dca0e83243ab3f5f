"""Log lines: structlog for ours, the same shape for libraries' warnings, and no secret in any of them.

JSON lines go to standard output, where containers are read. Commands that print results there hand over
`sys.stderr` instead. Times are RFC 3339 UTC. A traceback is data without local variables, which hold secrets.
"""

import logging
import re
import sys
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK: Final = "****"

_MAX_DEPTH = 8
_SECRET_NAME = re.compile(
    r"token|secret|password|passwd|passphrase|authori[sz]ation|credential|cookie|dsn|database_url|signature|api[_-]?key",
    re.IGNORECASE,
)
# Facts about a secret that are none.
_HARMLESS_NAME = re.compile(r"_(policy|index|count|seconds|file|result|name)$", re.IGNORECASE)
_SECRET_TEXT = (
    # Access tokens of the provider, live and test.
    (re.compile(r"\b(APP_USR|TEST)-[A-Za-z0-9_-]{6,}"), rf"\1-{MASK}"),
    (re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {MASK}"),
    # The password in `scheme://user:password@host`, even with unescaped signs in it.
    (re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s\"'<>]*@", re.IGNORECASE), rf"\1:{MASK}@"),
    (
        re.compile(r"\b(password|passwd|secret|access_token|client_secret)(\s*[=:]\s*)[^\s&\"',;]+", re.IGNORECASE),
        rf"\1\2{MASK}",
    ),
    # The digest of a webhook signature.
    (re.compile(r"\bv1=[0-9A-Fa-f]{16,}"), f"v1={MASK}"),
)


def configure(
    log_format: Literal["json", "console"] = "json",
    log_level: Literal["debug", "info", "warning", "error"] = "info",
    stream: TextIO | None = None,
) -> None:
    """Sets up logging for the whole process; call it again to change it. `stream` is standard output when None.

    Libraries (aiohttp, asyncio, asyncpg) are heard from warnings on; aiohttp's access log is off.
    """
    target = stream or sys.stdout
    level = logging.getLevelNamesMapping()[log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    ending = _ending(log_format, target)
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        # Module-level loggers must follow a second call; the cost is a microsecond a line.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known.formatter, structlog.stdlib.ProcessorFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("aiohttp.access").disabled = True
    logging.captureWarnings(capture=True)


def _ending(log_format: str, target: TextIO) -> list[Processor]:
    """What turns an event into a line; masking comes after exceptions became text, so that it sees them too."""
    if log_format == "json":
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
        return [
            structlog.processors.ExceptionRenderer(transformer),
            redact,
            structlog.processors.JSONRenderer(default=str),
        ]
    return [
        structlog.processors.format_exc_info,
        redact,
        structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback),
    ]


def redact(logger: WrappedLogger, method_name: str, event: EventDict) -> EventDict:
    """A structlog processor that masks secrets by the name of their key and by what they look like."""
    del logger, method_name
    return {name: _masked(name, value, 0) for name, value in event.items()}


def redact_text(text: str) -> str:
    """The text with everything masked that looks like a token, a password in a URL, or a signature."""
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _masked(name: object, value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(name, str) and _SECRET_NAME.search(name) and not _HARMLESS_NAME.search(name):
        return MASK
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(bytes(value))} bytes"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _masked_container(value, depth + 1)
    # Texts; and decimals, times, ids, models, whose text is what would be logged.
    return redact_text(str(value))


def _masked_container(value: Mapping[Any, Any] | Collection[Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): _masked(key, item, depth) for key, item in value.items()}
    return [_masked(None, item, depth) for item in value]
