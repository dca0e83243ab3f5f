"""`cuadre config`: what is in force, with every secret masked, or everything that is wrong with it."""

from service.accounts import AccountBook, account_warnings
from service.cli.context import configuration
from service.cli.output import Column, FormatOption, note, print_json, print_line, print_table, print_title
from service.mercadopago.account import Account
from service.orders.look_table import COUNTED_FOR, LookTable, looks_a_day, looks_of
from service.settings import MASK, Settings, describe
from service.web.keys import follow_keys


def command(format: FormatOption = "table") -> int:  # noqa: A002 - the option's name is the contract's
    """Show settings and accounts in force, secrets masked."""
    settings, accounts = configuration(also=follow_keys)
    warnings = warnings_about(settings) + account_warnings(settings)
    if format == "json":
        print_json(_document(settings, accounts, warnings))
        return 0
    print_table([Column("SETTING", "id"), Column("VALUE"), Column("MEANING")], describe(settings))
    print_title("accounts")
    print_table(
        [Column("NAME", "id"), Column("USER"), Column("APPLICATIONS"), Column("TOKEN"), Column("SECRETS"),
         Column("POLICY"), Column("RATE/S", "amount")],
        [_row(account) for account in accounts],
    )  # fmt: skip
    for account in accounts:
        print_line(f"{account.name}  {cost_of_looks(account.looks)}")
    if warnings:
        print_line("")
    for warning in warnings:
        note(warning)
    return 0


def warnings_about(settings: Settings) -> list[str]:
    """Variables that are set and mean nothing: mostly typing mistakes."""
    unknown = [f"{name}: no such setting; it changes nothing" for name in settings.unknown]
    return unknown + [f"{name}: not used, because CUADRE_ACCOUNTS_FILE is set" for name in settings.ignored]


def cost_of_looks(table: LookTable) -> str:
    """One line: what this table of looks costs, beside the looks that notifications ask for (three each at most)."""
    paid = looks_of(table)["qr_paid"].in_all
    return (
        f"looks: {paid} a paid QR order over {COUNTED_FOR.days} days; "
        f"1,000 orders a day cost {looks_a_day(table):,} looks a day"
    )


def _row(account: Account) -> tuple[object, ...]:
    return (
        account.name,
        account.user_id,
        " ".join(account.application_ids),
        MASK if account.access_token else None,
        f"{len(account.webhook_secrets)} set" if account.webhook_secrets else None,
        account.signature_policy,
        f"{account.rate_per_second:g}",
    )


def _document(settings: Settings, accounts: AccountBook, warnings: list[str]) -> dict[str, object]:
    return {
        "settings": [
            {"name": name, "value": value or None, "meaning": meaning} for name, value, meaning in describe(settings)
        ],
        "accounts": [
            {
                "name": account.name,
                "user_id": account.user_id,
                "application_ids": list(account.application_ids),
                "access_token": MASK if account.access_token else None,
                "webhook_secrets": [MASK for _ in account.webhook_secrets],
                "signature_policy": account.signature_policy,
                "rate_per_second": account.rate_per_second,
                "looks": {
                    "of_an_order": {name: cost._asdict() for name, cost in looks_of(account.looks).items()},
                    "a_day_per_1000_orders_a_day": looks_a_day(account.looks),
                },
            }
            for account in accounts
        ],
        "warnings": warnings,
    }
