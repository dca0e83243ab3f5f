"""What will happen to which order, decided before anything runs: the same seed gives the same plan, word for word.

A plan is a list of scenes; the orders of one scene happen one after the other, scenes side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

Json = dict[str, Any]

PAYMENT = "$payment"
"""Stands in a planned body for the id of the order's payment, which the provider chooses."""


@dataclass(frozen=True, slots=True)
class Do:
    """A change at the provider: a control route of the simulator and its body. `announce` as its `notify`."""

    change: str
    body: Mapping[str, Any] = field(default_factory=dict)
    announce: bool | str = True


@dataclass(frozen=True, slots=True)
class Announce:
    """A notification sent past all faults, so that what follows can rely on it."""

    action: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Go on once the service has stored the order as it is now: some rules need the earlier state to be known."""


@dataclass(frozen=True, slots=True)
class RunOut:
    """Go on once the provider's own clock has ended the order."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Some time between two changes."""

    seconds: float


Step = Do | Announce | Seen | RunOut | Pause


@dataclass(frozen=True, slots=True)
class Plant:
    """A planted contradiction and exactly what must be found: (rule, subject) pairs, written by hand.

    A subject is `order`, `payment`, `refund` (the first one that the order showed), or `earlier`, the order before it
    in its scene. `open_rules` stand open at the end, `resolved_rules` were open and are not any more.
    """

    name: str
    open_rules: tuple[tuple[str, str], ...] = ()
    resolved_rules: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """One order: the body that creates it and the steps of its life.

    `runs_out_in_seconds`: it is dated back so far that its fifteen minutes end that soon.
    """

    life: str
    create: Mapping[str, Any]
    steps: tuple[Step, ...] = ()
    runs_out_in_seconds: float | None = None
    plant: Plant | None = None


Scene = tuple[PlannedOrder, ...]


@dataclass(frozen=True, slots=True)
class Prefix:
    """Where the orders of one run take their references and chances from."""

    run: str
    random: Random

    def reference(self, number: int) -> str:
        """An `external_reference` that no other run has: letters, digits and dashes, well under 64 signs."""
        return f"{self.run}-{number:05d}"


def money(cents: int) -> str:
    """An amount as the provider writes it."""
    return f"{cents // 100}.{cents % 100:02d}"
