"""What commands add to metrics and log: a line when one is settled or becomes unknown. No body, no payer."""

import structlog

from service.database.pool import Database
from service.desk.intents import QUERIES, CommandRow
from service.telemetry import metrics

log = structlog.get_logger(__name__)


def report_settled(command: CommandRow) -> None:
    """Called once per settled command, after the commit."""
    metrics.commands_total.labels(command.kind, command.status).inc()
    seconds = None
    if command.settled_at is not None:
        seconds = max(0.0, (command.settled_at - command.asked_at).total_seconds())
        metrics.command_seconds.labels(command.kind).observe(seconds)
    log.info(f"command_{command.status}", seconds=seconds, refund_ids=list(command.refund_ids), **_named(command))


def report_unknown(command: CommandRow) -> None:
    """Called each time a command's outcome has become unknown, after the commit."""
    metrics.commands_total.labels(command.kind, "unknown").inc()
    log.warning(
        "command_unknown",
        last_error=command.last_error,
        advice="nothing to do: it is repeated under the same key, or looked into",
        **_named(command),
    )


def _named(command: CommandRow) -> dict[str, object]:
    return {
        "command_id": command.command_id,
        "kind": command.kind,
        "account": command.account,
        "order_id": command.order_id,
        "asked_by": command.asked_by,
        "attempts": command.attempts,
        "provider_status": command.provider_status,
        "provider_code": command.provider_code,
    }


async def refresh_gauges(database: Database) -> None:
    """Sets `commands_open` and `oldest_command_seconds`. For the elected process only, as all such gauges."""
    rows = await database.fetch(QUERIES.read_command_gauges)
    metrics.commands_open.clear()
    for row in rows:
        metrics.commands_open.labels(row["kind"], row["status"]).set(row["commands"])
    metrics.oldest_command_seconds.set(max((row["oldest_seconds"] for row in rows), default=0.0))
