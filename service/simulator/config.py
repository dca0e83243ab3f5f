"""How one simulator is set up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

DEFAULT_ACCESS_TOKEN = "APP_USR-simulator"  # noqa: S105 - opens nothing but a simulator  # nosec B105
DEFAULT_WEBHOOK_URL = "http://127.0.0.1:8080/webhooks/mercadopago"

RETRY_LADDER_SECONDS: tuple[float, ...] = (
    0.0,
    15 * 60.0,
    30 * 60.0,
    6 * 3600.0,
    48 * 3600.0,
    96 * 3600.0,
    96 * 3600.0,
    96 * 3600.0,
)
"""Wait before each of the eight deliveries of one notification (fact sheet of the notifications, §3)."""


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """Settings of one simulator; secrets never show in `repr`.

    `access_tokens` maps a token to the seller it speaks for; empty: any token speaks for everyone.
    `webhook_url` and `webhook_secret`: without the first nothing is delivered, without the second nothing is signed.
    `known_pos` and `known_terminals` are all there are (`None`: any name will do).
    `currency` overrides the one of the `site`. `start_at` and `speed` set the simulated clock (`None`: now).
    `time_compression` divides the waits of the retry ladder, `timeout_compression` the sender's 22 s and 5 s.
    """

    seed: int = 1
    host: str = "127.0.0.1"
    port: int = 8090
    webhook_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)
    access_tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    user_id: str = "2100457788"
    application_id: str = "5512340987654321"
    site: str = "MLA"
    currency: str | None = None
    known_pos: tuple[str, ...] | None = None
    known_terminals: tuple[str, ...] | None = None
    start_at: datetime | None = None
    speed: float = 1.0
    time_compression: float = 1.0
    timeout_compression: float = 1.0
    first_timeout_seconds: float = 22.0
    retry_timeout_seconds: float = 5.0
    delivery_concurrency: int = 64
    log_size: int = 20_000
    hang_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, with one line that says what."""
        if self.time_compression <= 0 or self.timeout_compression <= 0:
            raise ValueError("time_compression and timeout_compression must be above 0")
        if self.delivery_concurrency < 1 or self.log_size < 1:
            raise ValueError("delivery_concurrency and log_size must be 1 or more")
        if self.speed < 0:
            raise ValueError("speed must be 0 (frozen) or more")
