"""One seller account at Mercado Pago, as the service is configured for it."""

from dataclasses import dataclass, field
from typing import Literal

SignaturePolicy = Literal["required", "report", "off"]

DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True)
class Account:
    """Who the seller is and how to speak for it. Secrets never show in `repr`.

    `webhook_secrets` holds every active secret (current, previous, test), tried in this order.
    `rate_per_second` bounds this account's calls from this process.
    """

    name: str
    user_id: str | None = None
    application_ids: tuple[str, ...] = ()
    access_token: str | None = field(default=None, repr=False)
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    signature_policy: SignaturePolicy = "report"
    rate_per_second: float = 50.0
