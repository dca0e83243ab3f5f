"""The lives of a run: the demo's day with its planted contradictions, and more of what is hard."""

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from service.cli.demo.lives import CARD
from service.cli.demo.plan import Do, Pause, PlannedOrder, Prefix, Scene, Step, money
from service.cli.demo.programme import plan_day

UNANNOUNCED_SHARE: Final = 0.06
TANGLED_SHARE: Final = 0.12


@dataclass(frozen=True, slots=True)
class EndRefund:
    """The oldest refund that is in process ends with this status."""

    status: str


def plan(run: str, seed: int, orders: int, *, unannounced: bool) -> list[Scene]:
    """Scenes of exactly `orders` orders together, equal for equal arguments."""
    random = Random(f"{run}-{seed}-{orders}")
    prefix = Prefix(run, random)
    scenes = []
    for number, scene in enumerate(plan_day(run, seed, orders), start=1):
        first = scene[0]
        ordinary = len(scene) == 1 and first.plant is None and first.runs_out_in_seconds is None and number > 1
        if not ordinary:
            scenes.append(scene)
        elif random.random() < TANGLED_SHARE:
            scenes.append((_tangled(prefix, str(first.create["external_reference"])),))
        elif unannounced and random.random() < UNANNOUNCED_SHARE:
            scenes.append((replace(first, steps=tuple(map(_hushed, first.steps))),))
        else:
            scenes.append(scene)
    return scenes


def _hushed(step: Step) -> Step:
    return replace(step, announce=False) if isinstance(step, Do) else step


def _tangled(prefix: Prefix, reference: str) -> PlannedOrder:
    """Refunds that overtake each other, and money that comes late and is given back. It all adds up in the end."""
    random = prefix.random
    total = random.randrange(90_000, 9_000_000, 50)
    parts = [money(random.randrange(total // 20, total // 5)) for _ in range(3)]
    pay, rest = Do("pay"), Do("refund")
    begun = [Do("refund", {"amount": part, "status": "processing"}, announce="order.processed") for part in parts]
    ended = EndRefund("processed")
    lives: list[tuple[str, str, tuple[object, ...]]] = [
        ("refunds that overlap", "qr", (pay, begun[0], begun[1], ended, ended, rest)),
        ("a refund within a refund", "online", (pay, begun[0], Do("refund", {"amount": parts[1]}), ended)),
        ("three refunds at once", "online", (pay, *begun, ended, ended, ended, rest)),
        (
            "many small refunds",
            "point",
            (Do("terminal"), pay, *(Do("refund", {"amount": part}) for part in parts), rest),
        ),
        ("late money, given back", "qr", (Do("expire"), pay, rest)),
        ("money after it was canceled, given back", "online", (Do("cancel"), pay, rest)),
        ("charged back and won", "online", (pay, Do("chargeback"), Do("chargeback", {"status": "reimbursed"}))),
        ("charged back and lost", "online", (pay, Do("chargeback"), Do("chargeback", {"status": "settled"}))),
    ]
    name, kind, steps = random.choice(lives)
    create = {"type": kind, "total_amount": money(total), "external_reference": reference}
    if kind == "online":
        create |= {"payment_method": CARD}  # type: ignore[dict-item]  # an object among texts
    paused = [part for step in steps for part in (_pause(random), step)]
    return PlannedOrder(name, create, tuple(paused))  # type: ignore[arg-type]  # the driver knows one step more


def _pause(random: Random) -> Pause:
    return Pause(0.0 if random.random() < 0.5 else round(random.uniform(0.02, 0.8), 2))
