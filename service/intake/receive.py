"""From a raw delivery to the answer it gets: account, limits, shape, signature, commit; in that order."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from service.database.batching import Overloaded
from service.database.pool import ITEM_FAULT, UNAVAILABLE
from service.intake.record import Delivery, NotificationRecorder, Recorded
from service.mercadopago.account import Account
from service.mercadopago.notification import MalformedNotification, Notification, copy_key, parse
from service.mercadopago.signature import Verification, verify
from service.telemetry import metrics

MAX_BODY_BYTES = 64 * 1024
# Nothing was committed, and nothing is wrong with the delivery: the sender comes again.
NOT_NOW: tuple[type[BaseException], ...] = (*UNAVAILABLE, Overloaded)
RETRY_AFTER_SECONDS = 5
REFUSED_SAMPLE_SECONDS = 60.0
# Never stored: they may carry credentials of whatever stands in front of us.
_WITHHELD_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})

log = structlog.get_logger(__name__)


class Accounts(Protocol):
    """Who a notification may be for."""

    def by_name(self, name: str) -> Account | None: ...

    def route(self, user_id: str | None, application_id: str | None) -> Account | None: ...


@dataclass(frozen=True, slots=True)
class RawDelivery:
    """A request as it came. `body` is None where it was over the limit."""

    account_name: str | None
    path: str
    query: Sequence[tuple[str, str]]
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    received_at: float

    def header(self, name: str) -> str | None:
        """The first value of a header, by its lowercase name."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and its one status word. No answer tells more."""

    status: int
    word: str


RECORDED = Answer(200, "recorded")
MALFORMED = Answer(400, "malformed")
REFUSED = Answer(401, "refused")
UNKNOWN_ACCOUNT = Answer(404, "unknown_account")
OVERSIZED = Answer(413, "oversized")
UNAVAILABLE_ANSWER = Answer(503, "unavailable")


class Intake:
    """Takes deliveries at any rate and answers each in time for the provider's own timeout.

    `accounts` is asked anew for each delivery, since configuration changes under a running service.
    """

    def __init__(
        self,
        recorder: NotificationRecorder,
        accounts: Callable[[], Accounts],
        *,
        ack_timeout_seconds: float,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorder = recorder
        self._accounts = accounts
        self._ack_timeout_seconds = ack_timeout_seconds
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._next_refused_sample: dict[str, float] = {}
        self._database_is_down = False

    async def receive(self, raw: RawDelivery) -> Answer:
        """Decides, records and answers; never raises for anything a sender can send."""
        topic, answer, outcome = await self._decide(raw)
        label = metrics.bounded(topic, metrics.KNOWN_TOPICS)
        metrics.notifications_total.labels(label, outcome).inc()
        metrics.notification_seconds.observe(self._monotonic() - raw.received_at)
        return answer

    async def _decide(self, raw: RawDelivery) -> tuple[str | None, Answer, str]:
        accounts = self._accounts()
        account: Account | None = None
        if raw.account_name is not None:
            account = accounts.by_name(raw.account_name)
            if account is None:
                return None, UNKNOWN_ACCOUNT, "unknown_account"
        if raw.body is None:
            return None, OVERSIZED, "oversized"
        notification, fault = _read(raw, raw.body)
        if account is None:
            user_id = notification.user_id if notification else None
            application_id = notification.application_id if notification else None
            account = accounts.route(user_id, application_id)
            if account is None:
                return None, UNKNOWN_ACCOUNT, "unknown_account"
        if notification is None:
            log.debug("notification_malformed", account=account.name, reason=fault)
            return None, MALFORMED, "malformed"
        return await self._verify_and_record(raw, raw.body, notification, account)

    async def _verify_and_record(
        self, raw: RawDelivery, body: bytes, notification: Notification, account: Account
    ) -> tuple[str | None, Answer, str]:
        verification = self._verify(raw, notification, account)
        metrics.signature_checks_total.labels(verification.result, verification.manifest or "none").inc()
        refused = account.signature_policy == "required" and not verification.verified
        if refused and not self._samples_refused(account.name):
            return notification.topic, REFUSED, "refused"
        if account.legacy_qr is not None:
            # A merchant order or a payment that was told of is looked at, as unverified as its notice mostly is.
            notification = notification.with_legacy_look()
        delivery = Delivery(
            account=account.name,
            notification=notification,
            verification=verification,
            refused=refused,
            copy_key=copy_key(account.name, verification.verified, notification, body),
            path=_clean(raw.path),
            query=_as_json_object(raw.query),
            headers=_as_json_object(raw.headers),
            body=notification.body_text,
            body_altered=notification.body_altered,
        )
        recorded = await self._commit(delivery, body, raw.received_at)
        if refused:
            # The sample explains a drift later; whether it could be stored changes nothing for the sender.
            return notification.topic, REFUSED, "refused"
        if recorded is None:
            return notification.topic, UNAVAILABLE_ANSWER, "unavailable"
        if recorded.is_copy:
            return notification.topic, RECORDED, "copy"
        return notification.topic, RECORDED, "recorded" if verification.verified else "unverified"

    def _verify(self, raw: RawDelivery, notification: Notification, account: Account) -> Verification:
        if account.signature_policy == "off":
            return Verification("not_checked", None, None, None)
        return verify(
            signature=raw.header("x-signature"),
            request_id=raw.header("x-request-id"),
            data_id=notification.signed_id,
            secrets=account.webhook_secrets,
            now=self._wall_clock(),
        )

    def _samples_refused(self, account: str) -> bool:
        now = self._monotonic()
        if now < self._next_refused_sample.get(account, 0.0):
            return False
        self._next_refused_sample[account] = now + REFUSED_SAMPLE_SECONDS
        return True

    async def _commit(self, delivery: Delivery, raw_body: bytes, received_at: float) -> Recorded | None:
        """The committed row, or None where nothing was committed in time (the sender is asked to come again)."""
        remaining = self._ack_timeout_seconds - (self._monotonic() - received_at)
        try:
            async with asyncio.timeout(max(0.0, remaining)):
                try:
                    recorded = await self._recorder.record(delivery)
                except ITEM_FAULT:
                    recorded = await self._recorder.record(delivery.without_odd_values(raw_body))
        except NOT_NOW as error:
            self._say_once_that_the_database_is_down(error)
            return None
        except Exception:
            # Not committed is not acknowledged, whatever the reason was.
            log.exception("notification_not_recorded", account=delivery.account)
            return None
        if self._database_is_down:
            self._database_is_down = False
            log.info("intake_recovered")
        return recorded

    def _say_once_that_the_database_is_down(self, error: BaseException) -> None:
        if not self._database_is_down:
            self._database_is_down = True
            log.warning(
                "intake_cannot_commit",
                error=type(error).__name__,
                advice="notifications are answered 503 and come again; look at the database",
            )


def _read(raw: RawDelivery, body: bytes) -> tuple[Notification | None, str | None]:
    if raw.header("content-encoding") is not None:
        return None, "a Content-Encoding is not taken"
    try:
        return parse(raw.query, body), None
    except MalformedNotification as error:
        return None, str(error)


def _clean(text: str) -> str:
    """Text that Postgres takes: no NUL, no lone surrogates."""
    return text.replace("\x00", "\\u0000").encode("utf-8", "replace").decode("utf-8")


def _as_json_object(pairs: Sequence[tuple[str, str]]) -> str:
    """Pairs as one JSON object, by lowercase name for headers and verbatim for query; repeated names become arrays."""
    collected: dict[str, str | list[str]] = {}
    for name, value in pairs:
        key, text = _clean(name), _clean(value)
        if key.lower() in _WITHHELD_HEADERS:
            text = "withheld"
        earlier = collected.get(key)
        if earlier is None:
            collected[key] = text
        elif isinstance(earlier, list):
            earlier.append(text)
        else:
            collected[key] = [earlier, text]
    return json.dumps(collected, ensure_ascii=False)
