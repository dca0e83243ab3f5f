"""What accounts decide for themselves, as whoever applies looks or judges stored orders needs it: by account name.

    await apply_looks(database, looks, **account_policies(accounts.by_name))

Whoever leaves them out judges as if no account had any, so only tests do.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TypedDict

from service.mercadopago.account import Account
from service.orders.look_table import DEFAULT_LOOKS, LookTable

RefundPolicy = Callable[[str], datetime | None]
"""Since when every refund of an account is to be asked for here; None: no such policy."""

LookPolicy = Callable[[str], LookTable]
"""When an account's orders are looked at with no notification to ask for it."""


class AccountPolicies(TypedDict):
    """The keyword arguments of `apply_looks`."""

    refunds_only_here_since: RefundPolicy
    look_table: LookPolicy


def account_policies(find: Callable[[str], Account | None]) -> AccountPolicies:
    """The policies of whatever account `find` has under a name at the moment it is asked; the defaults for none."""

    def refunds_only_here_since(name: str) -> datetime | None:
        account = find(name)
        return None if account is None else account.refunds_only_here_since

    def look_table(name: str) -> LookTable:
        account = find(name)
        return DEFAULT_LOOKS if account is None else account.looks

    return {"refunds_only_here_since": refunds_only_here_since, "look_table": look_table}


def no_policy(_account: str) -> datetime | None:
    """Refunds of no account have to be asked for here."""
    return None


def default_looks(_account: str) -> LookTable:
    """Every account is looked at as the contract says."""
    return DEFAULT_LOOKS
