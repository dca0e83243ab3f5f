"""The ordinary lives of orders, as often as their weights say: paid, refunded, canceled, expired, declined, disputed.

Nothing in here may open a discrepancy; some of it looks as if it should.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, NamedTuple

from service.cli.demo.plan import Announce, Do, Pause, PlannedOrder, Prefix, RunOut, Scene, Step, money

QUIRKS = (
    "alpha2_country",
    "site_country",
    "no_currency",
    "two_digit_fractions",
    "nine_digit_fractions",
    "discounts_object",
    "discounts_array",
    "empty_taxes",
    "unknown_fields",
    "number_amounts",
    "refunded_detail_created",
)
QUIRKY_SHARE = 0.25
# Without an expiry of its own an online order lives for a day; this one shall end while we watch.
ONLINE_RUNNING_OUT = {"expiration_time": "PT15M"}
WALLET = {"id": "account_money", "type": "account_money", "installments": 1}
CARD = {"id": "visa", "type": "credit_card", "installments": 1}

PAY = Do("pay")
REFUND_ALL = Do("refund")
TERMINAL = Do("terminal")


class Drawn(NamedTuple):
    """What a life is made from: `total` in cents and the chances of the run."""

    total: int
    random: Random

    def part(self) -> str:
        """Some of the total, never all of it."""
        return money(self.random.randrange(self.total // 10, self.total // 2))


class Life(NamedTuple):
    """A kind of life: how often, of which type, and its steps. `also` goes into the order's creation."""

    name: str
    type: str
    weight: int
    steps: Callable[[Drawn], tuple[Step, ...]]
    also: Callable[[Drawn], Mapping[str, Any]] = lambda _: {}
    runs_out: bool = False


def _just(*steps: Step) -> Callable[[Drawn], tuple[Step, ...]]:
    return lambda _: steps


def _with_part(*steps: Step) -> Callable[[Drawn], tuple[Step, ...]]:
    return lambda drawn: (*steps, Do("refund", {"amount": drawn.part()}))


def _wallet_discount(drawn: Drawn) -> Mapping[str, Any]:
    # As in the official sample: 47.28 paid of 50.00, by the wallet alone.
    return {"discounts": [{"type": "account_money", "new_total_amount": money(drawn.total * 4728 // 5000)}]}


def _refund_made_good(drawn: Drawn) -> tuple[Step, ...]:
    part = drawn.part()
    return (
        Do("pay", {"payment_method": CARD}),
        Do("refund", {"amount": part, "status": "failed"}, announce=False),
        Do("refund", {"amount": part}),
    )


LIVES = (
    Life("paid", "qr", 26, _just(PAY)),
    Life("paid with the wallet's discount", "qr", 5, _just(Do("pay", {"payment_method": WALLET})), _wallet_discount),
    Life("discounted, refunded in full", "qr", 4, _just(Do("pay", {"payment_method": WALLET}), REFUND_ALL),
         _wallet_discount),
    Life("refunded in part", "qr", 6, _with_part(PAY)),
    Life("refunded in two parts", "qr", 4, lambda drawn: (PAY, Do("refund", {"amount": drawn.part()}), REFUND_ALL)),
    Life("refunded in full", "qr", 5, _just(PAY, REFUND_ALL)),
    Life("failed refund made good", "qr", 2, _refund_made_good),
    Life("canceled", "qr", 5, _just(Do("cancel"))),
    Life("expired", "qr", 6, _just(RunOut()), runs_out=True),
    Life("left open", "qr", 2, _just()),
    Life("paid", "point", 16, _just(TERMINAL, PAY)),
    Life("paid with a tip", "point", 4,
         lambda drawn: (TERMINAL, Do("pay", {"tip_amount": money(drawn.total // 10)}))),
    Life("refunded in part", "point", 3, _with_part(TERMINAL, PAY)),
    Life("refunded in full", "point", 3, _just(TERMINAL, PAY, REFUND_ALL)),
    Life("declined", "point", 4, _just(TERMINAL, Do("fail"))),
    Life("canceled on the terminal", "point", 2, _just(TERMINAL, Do("cancel"))),
    Life("looked at on the device, then paid", "point", 3, _just(TERMINAL, Do("action_required"), PAY)),
    Life("result unknown", "point", 1, _just(TERMINAL, Do("action_required"))),
    Life("expired", "point", 2, _just(RunOut()), runs_out=True),
    Life("paid", "online", 14, _just(PAY)),
    Life("reviewed, then paid", "online", 3, _just(Do("processing"), PAY)),
    Life("transferred, then paid", "online", 5, _just(Do("action_required"), PAY)),
    Life("transfer awaited", "online", 2, _just(Do("action_required"))),
    Life("refunded in part", "online", 4, _with_part(PAY)),
    Life("refunded in full", "online", 4, _just(PAY, REFUND_ALL)),
    Life("declined", "online", 3, _just(Do("fail")), lambda _: {"payment_method": CARD}),
    Life("canceled", "online", 3, _just(Do("cancel"))),
    Life("expired", "online", 3, _just(RunOut()), lambda _: ONLINE_RUNNING_OUT, runs_out=True),
    Life("charged back", "online", 3, _just(PAY, Do("chargeback"))),
    Life("chargeback won", "online", 2, _just(PAY, Do("chargeback"), Do("chargeback", {"status": "reimbursed"}))),
)  # fmt: skip


def sure_sale(prefix: Prefix, number: int) -> Scene:
    """A QR order that is paid, announced past all faults."""
    create = {"type": "qr", "total_amount": "1500.00", "external_reference": prefix.reference(number)}
    return (PlannedOrder("paid", create, (Do("pay", announce=False), Announce("order.processed"))),)


def draw_life(prefix: Prefix, number: int) -> Scene:
    """The scene of one ordinary order, drawn from `prefix.random`."""
    random = prefix.random
    life = random.choices(LIVES, weights=[life.weight for life in LIVES])[0]
    drawn = Drawn(total=random.randrange(90_000, 9_000_000, 50), random=random)
    create = {
        "type": life.type,
        "total_amount": money(drawn.total),
        "external_reference": prefix.reference(number),
        **life.also(drawn),
    }
    if life.type == "qr":
        create["mode"] = random.choice(("static", "dynamic", "hybrid"))
    if random.random() < QUIRKY_SHARE:
        create["quirks"] = [random.choice(QUIRKS)]
    steps = [part for step in life.steps(drawn) for part in (_pause(random), step)]
    ends = round(random.uniform(0.5, 5.0), 1) if life.runs_out else None
    return (PlannedOrder(life.name, create, tuple(steps), runs_out_in_seconds=ends),)


def _pause(random: Random) -> Pause:
    """None, often enough, for one notification to overtake another."""
    return Pause(0.0 if random.random() < 0.4 else round(random.uniform(0.05, 0.9), 2))
