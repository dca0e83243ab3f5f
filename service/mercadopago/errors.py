"""Everything that can go wrong with a call to Mercado Pago, by whose fault it is: that alone decides what happens next.

    MercadoPagoError
    ├── ProviderTrouble       nobody's fault here: wait; no attempt is counted, nothing stored changes
    │   ├── ConnectionTrouble   no connection, or it broke before the answer was whole
    │   ├── Timeout             no answer in time (also 408)
    │   ├── ServerTrouble       5xx, 423, 425: "not now"
    │   ├── RateLimited         429: slow down
    │   └── NonsenseAnswer      3xx, over 5 MiB, no JSON object where one belongs, another order's id
    ├── AccountRefused        401, 403, no usable token: the account pauses until its settings are right
    └── OrderFault            something about this one order: counts, backs off, ends in quarantine
        ├── OrderNotFound       404
        ├── BadRequest          400 and every other 4xx
        └── UnreadableOrder     200 with an object that cannot be read as an order

Messages are one line of at most some 250 printable characters. They carry the provider's own code and message, never a
token, a header's value or a payload. Sources: fact sheet of the Orders API §8, outward contract "Pace".
"""

from typing import ClassVar

MESSAGE_LIMIT = 250


def one_line(text: str, limit: int) -> str:
    """`text` as printable characters on one line, at most `limit` of them: safe for logs and Postgres text."""
    cut = text[: limit * 2]
    printable = "".join(character if character.isprintable() else " " for character in cut)
    words = " ".join(printable.split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


class MercadoPagoError(Exception):
    """A call that did not give what it was made for.

    `outcome` is a short code from a fixed set: the metric's label and the first word of `last_error`. `hint` tells
    the operator what to do. `retry_after_seconds` is what the provider asked for (0 to 900), if it asked.
    """

    default_outcome: ClassVar[str] = "error"
    hint: ClassVar[str] = "See the message."

    def __init__(
        self, message: str, *, outcome: str | None = None, retry_after_seconds: float | None = None, status: int = 0
    ) -> None:
        super().__init__(one_line(message, MESSAGE_LIMIT))
        self.outcome = outcome or self.default_outcome
        self.retry_after_seconds = retry_after_seconds
        self.status = status
        """The HTTP status, 0 where there was none."""
        self.code: str | None = None
        """The machine's word for it in an answer of the provider's own; a page of a gateway bears none."""


class ProviderTrouble(MercadoPagoError):  # noqa: N818 - named for what it is to the caller; the tree reads as one list
    """Not the order's fault and not ours: the same call will work later.

    `sent` is False only where the connection was never made, so that the provider cannot have seen the call. A write
    whose `sent` is True may have taken effect.
    """

    default_outcome = "trouble"
    hint = "Nothing to do: fetching goes on by itself when Mercado Pago answers again."

    def __init__(
        self,
        message: str,
        *,
        outcome: str | None = None,
        retry_after_seconds: float | None = None,
        status: int = 0,
        sent: bool = True,
    ) -> None:
        super().__init__(message, outcome=outcome, retry_after_seconds=retry_after_seconds, status=status)
        self.sent = sent


class ConnectionTrouble(ProviderTrouble):
    default_outcome = "connection"
    hint = "Check network, DNS and CUADRE_MERCADOPAGO_URL if this lasts; fetching goes on by itself."


class Timeout(ProviderTrouble):
    default_outcome = "timeout"


class ServerTrouble(ProviderTrouble):
    default_outcome = "server_error"


class RateLimited(ProviderTrouble):
    default_outcome = "rate_limited"
    hint = "Lower rate_per_second of this account if this lasts; the rate is already lowered by itself."


class NonsenseAnswer(ProviderTrouble):
    default_outcome = "nonsense"
    hint = "Check that CUADRE_MERCADOPAGO_URL is Mercado Pago's API itself, with no portal or proxy page before it."


class AccountRefused(MercadoPagoError):  # noqa: N818 - named for what it is to the caller; the tree reads as one list
    """The account's token is missing or not accepted. Every other call for this account would fail the same way."""

    default_outcome = "refused"
    hint = "Check this account's access_token (`cuadre doctor`); a changed accounts file is tried at once."


class OrderFault(MercadoPagoError):  # noqa: N818 - named for what it is to the caller; the tree reads as one list
    """The provider answered well, and the answer is about this order."""

    default_outcome = "order_fault"


class OrderNotFound(OrderFault):
    default_outcome = "not_found"
    hint = "The order is not this account's, is older than 3 months, or belongs to other credentials (test, live)."


class BadRequest(OrderFault):
    default_outcome = "bad_request"
    hint = "Mercado Pago does not take this order id; look at where it came from."


class UnreadableOrder(OrderFault):
    """`reason` says what could not be read; `body` is the answer's text for the quarantine (at most 1 MiB)."""

    default_outcome = "unreadable"
    hint = "Look at the stored text of the answer; after an update that reads it: `cuadre sync` the order again."

    def __init__(self, reason: str, *, body: str | None = None, status: int = 200) -> None:
        super().__init__(reason, status=status)
        self.reason = str(self)
        self.body = body
