"""One seller account at Mercado Pago, as the service is configured for it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from service.orders.look_table import DEFAULT_LOOKS, LookTable

SignaturePolicy = Literal["required", "report", "off"]
LegacyQr = Literal["v1", "v2"]

DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True)
class Account:
    """Who the seller is and how to speak for it. Secrets never show in `repr`.

    `webhook_secrets` holds every active secret (current, previous, test), tried in this order.
    `rate_per_second` bounds this account's calls from this process.
    `currency` (ISO 4217) tells the desk how many decimals an amount may have before any order is stored.
    `refunds_only_here_since`: from then on every refund is to come through the desk; others are discrepancies.
    `legacy_qr` says which generation of the attended QR the desk speaks; where it is set, legacy notifications
    (`merchant_order`, `payment`) lead to looks. `legacy_store_id` is the `external_store_id` that V2 paths need.
    `keep_payer`: what the provider says about the person who pays is stored with the order.
    `looks` says when this account's orders are looked at with no notification to ask for it.
    """

    name: str
    user_id: str | None = None
    application_ids: tuple[str, ...] = ()
    access_token: str | None = field(default=None, repr=False)
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    signature_policy: SignaturePolicy = "report"
    rate_per_second: float = 50.0
    currency: str | None = None
    refunds_only_here_since: datetime | None = None
    legacy_qr: LegacyQr | None = None
    legacy_store_id: str | None = None
    looks: LookTable = DEFAULT_LOOKS
    keep_payer: bool = False
