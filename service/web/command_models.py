"""What the API tells of commands and of points of sale, field by field; the tables' column names where there is one."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from service.web.models import Amount, Document, ErrorBody, Instant, RawObject

# Described here and left out of an answer that has none: a default would stand in the document as a text.
MayBeAbsent = Annotated[RawObject, Field(default_factory=lambda: "{}")]


class Command(Document):
    """Something that somebody here asked Mercado Pago to do, and what became of it.

    `status`: `waiting`, `sending`, `unknown` (it may have happened; it is being found out), `accepted` (the provider
    said yes, a look has yet to show it); final: `done`, `refused`, `withdrawn`. What is sent is not told.
    """

    RAW: ClassVar[frozenset[str]] = frozenset({"reserved"})

    command_id: str
    account: str
    idempotency_key: str
    asked_by: str
    asked_at: Instant
    kind: str
    type: str | None
    order_id: str | None
    external_reference: str | None
    point_of_sale: str | None
    payment_id: str | None
    amount: Amount | None
    currency: str | None
    reserved: RawObject
    status: str
    attempts: int
    maybe_sent_at: Instant | None
    attempted_at: Instant | None
    valid_until: Instant | None
    accepted_at: Instant | None
    settled_at: Instant | None
    provider_status: int | None
    provider_code: str | None
    message: str | None
    refund_ids: list[str]
    last_error: str | None
    expires_at: Instant | None
    due_at: Instant | None


class CommandsPage(Document):
    """One page of commands."""

    data: list[Command]
    next_cursor: str | None


class CommandAnswer(Document):
    """A command."""

    command: Command


class OrderAnswer(Document):
    """A command that is done, and the provider's own answer to it, where it shows the order as it is now."""

    command: Command
    order: MayBeAbsent


class RefundMade(Document):
    """A refund that a command made. Its status is the order's affair: it may change."""

    refund_id: str
    order_id: str
    payment_id: str | None
    amount: Amount | None
    currency: str | None


class RefundAnswer(Document):
    """A refund that a look at the order has shown."""

    command: Command
    refunds: list[RefundMade]


class CommandErrorDocument(Document):
    """The envelope of a refusal, with the command that was refused and the order where there is one."""

    error: ErrorBody
    command: Command | None = None
    order: MayBeAbsent


class SafeCancel(Document):
    """The call that takes a sale off its point of sale without a risk to money that may have moved."""

    method: Literal["POST", "DELETE"]
    path: str


class LiveSale(Document):
    """What a buyer may be looking at, or what is on its way there.

    `what`: an `order` that is stored and open, a `legacy_sale` put there by the desk, a `command` whose outcome is not
    known yet. `not_cancelable` says why there is no `cancel`.
    """

    what: Literal["order", "legacy_sale", "command"]
    order_id: str | None
    command_id: str | None
    kind: str | None
    type: str | None
    status: str
    amount: Amount | None
    currency: str | None
    external_reference: str | None
    since: Instant
    age_seconds: float
    expires_at: Instant | None
    cancelable: bool
    cancel: SafeCancel | None
    not_cancelable: str | None


class PointOfSale(Document):
    """A printed QR or a terminal with something live on it, newest first: a printed QR shows the newest."""

    account: str
    point_of_sale: str
    live: list[LiveSale]


class PointsOfSale(Document):
    """Every point of sale with something live on it. `truncated`: there are more; ask per account or point of sale."""

    data: list[PointOfSale]
    truncated: bool
