"""One pacing gate per account of this process, following the accounts as they change."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from random import random

from service.mercadopago.account import Account
from service.mercadopago.pacing import AccountGate
from service.sync.claims import Lane
from service.telemetry import metrics


class Gates:
    """Says how much may be fetched now, per account, and divides a worker's free slots fairly."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._gates: dict[str, AccountGate] = {}
        self._accounts: dict[str, Account] = {}
        self._first = 0

    def follow(self, accounts: Iterable[Account]) -> None:
        """Takes over changed settings; a changed token or rate is probed at once."""
        wanted = {account.name: account for account in accounts}
        for name in self._gates.keys() - wanted.keys():
            del self._gates[name]
            metrics.api_paused.remove(name)
        for name, account in wanted.items():
            before = self._accounts.get(name)
            if name not in self._gates:
                self._gates[name] = AccountGate(account.rate_per_second, random=random)
            elif before != account:
                changed = before is None or before.access_token != account.access_token
                self._gates[name].configure(account.rate_per_second, credentials_changed=changed)
        self._accounts = wanted

    def account(self, name: str) -> Account | None:
        return self._accounts.get(name)

    def gate(self, name: str) -> AccountGate | None:
        return self._gates.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._accounts)

    def lanes(
        self,
        now: float,
        free_slots: int,
        in_flight: Mapping[tuple[str, bool], int],
        concurrency: int,
        *,
        strangers_turn: bool = False,
    ) -> list[Lane]:
        """Lanes to claim from at `now` (this clock's), each within its account's rate and the free slots.

        Together they may ask for more than the free slots: most accounts have nothing due, so the claim itself is
        bounded, and the accounts take turns at being first. Known orders get three quarters of an account's room,
        strangers a quarter and never more than half of its slots, so that a slow flood of strangers leaves room for
        what is known. Where there is room for one only, it is a known one's, unless it is the `strangers_turn`. No
        account takes more than half of the slots where there are others.
        """
        share, strangers_share = self._shares(concurrency)
        lanes = []
        for name, gate in self._rotated():
            room = gate.room(now)
            busy = in_flight.get((name, True), 0) + in_flight.get((name, False), 0)
            budget = min(free_slots, room.known, share - busy)
            if budget <= 0:
                continue
            strangers_free = strangers_share - in_flight.get((name, False), 0)
            wanted = budget // 4 if budget >= 4 else int(budget > 1 or strangers_turn)
            unknown = max(0, min(wanted, room.unknown, strangers_free))
            lanes += [Lane(name, True, budget - unknown), Lane(name, False, unknown)]
        return [lane for lane in lanes if lane.room > 0]

    def has_used_its_slots(self, in_flight: Mapping[tuple[str, bool], int], concurrency: int) -> bool:
        """Whether an account, or its strangers, may have no more slots until one of its looks ends."""
        share, strangers_share = self._shares(concurrency)
        taken = [(in_flight.get((name, True), 0), in_flight.get((name, False), 0)) for name in self._gates]
        return any(known + unknown >= share or unknown >= strangers_share for known, unknown in taken)

    def _shares(self, concurrency: int) -> tuple[int, int]:
        """Of the slots: what one account may take, and of that its strangers."""
        share = concurrency if len(self._gates) < 2 else max(1, concurrency // 2)
        return share, max(1, share // 2)

    def _rotated(self) -> list[tuple[str, AccountGate]]:
        """The gates, another one first each time: where slots are scarce, the accounts take turns too."""
        gates = list(self._gates.items())
        if not gates:
            return []
        self._first = (self._first + 1) % len(gates)
        return gates[self._first :] + gates[: self._first]

    def seconds_until_room(self, now: float) -> float | None:
        """How long after `now` a gate that is closed then may open; None where no gate waits for time."""
        waits = [wait for gate in self._gates.values() if (wait := gate.next_change(now)) is not None]
        return min(waits, default=None)

    def show(self) -> None:
        """Refreshes the `api_paused` gauge."""
        now = self._clock()
        for name, gate in self._gates.items():
            metrics.api_paused.labels(name).set(0 if gate.paused(now) is None else 1)
