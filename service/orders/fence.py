"""The fence: which of two snapshots of one order is the newer one.

A snapshot with a provider time is newer by (`updated_at`, `claimed_at`): a later claim of the same provider time wins,
because the provider's content may change within one tick of its clock. Where either snapshot has no provider time,
only the claims can be compared, and the later claim wins.

A provider time that lies further ahead of its own claim than clocks differ says nothing of when the snapshot is of: it
counts as none. Else one wrong date would keep every later answer out until it has come.

Among snapshots that all have a provider time, or all have none, this is a strict order: every sequence of deliveries
ends with the same winner. Where the two kinds are mixed it is decided pair by pair and is not transitive: of a time
of 10:00 claimed first, none claimed second and a time of 9:00 claimed third, each beats the one before it and the
first beats the third. What is stored then depends on the order of deliveries. That is accepted, because it ends by
itself: a fetch that is claimed after all of them and shows the provider's present time beats them all, and a next
look is always owed while money can move.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

AHEAD_AT_MOST: Final = timedelta(minutes=10)
"""How far the provider's clock may be ahead of the database's."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a snapshot is of.

    `updated_at`: the provider's `last_updated_date`, if given. `claimed_at`: the database's clock when its fetch was
    claimed, before the request left.
    """

    updated_at: datetime | None
    claimed_at: datetime

    @property
    def provider_time(self) -> datetime | None:
        """`updated_at`, if it can be true: a fetch cannot show what is dated after it."""
        if self.updated_at is None or self.updated_at > self.claimed_at + AHEAD_AT_MOST:
            return None
        return self.updated_at


def supersedes(candidate: Stamp, stored: Stamp) -> bool:
    """Whether `candidate` replaces `stored`; equal stamps do not."""
    new, old = candidate.provider_time, stored.provider_time
    if new is None or old is None:
        return candidate.claimed_at > stored.claimed_at
    return (new, candidate.claimed_at) > (old, stored.claimed_at)
