"""The order desk: what a till may ask of Mercado Pago, checked and written down before anything leaves.

Every question is one transaction that writes one row of `commands`. Sending it is the runner's affair
(`service.desk.runner`), in this process or in another one.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from service.database.pool import Database
from service.desk.by_hand import settle_by_hand, withdraw
from service.desk.create_rules import check_create
from service.desk.errors import UnknownCommand
from service.desk.fields import member
from service.desk.identities import check_key, new_command_id, provider_key, request_hash
from service.desk.intents import QUERIES, CommandRow, Intent, command_row, find_by_key, write_down
from service.desk.legacy_intents import legacy_options
from service.desk.legacy_rules import check_legacy, check_point_of_sale
from service.desk.order_intents import cancellation, refund_intent
from service.mercadopago.account import Account
from service.telemetry import crashpoints

# A sale that says nothing about its end is worth sending for as long as an order lives by default (fact sheet, §4.4).
DEFAULT_VALID: Final = timedelta(minutes=15)
# The legacy QR's own default (legacy fact sheet, §1).
LEGACY_TTL_SECONDS: Final = 600
_WAIT_STEP_SECONDS: Final = (0.02, 0.25)


class Desk:
    """Takes commands, and tells what became of them. Needs nothing of the provider, so it works while that is away.

    `account` finds an account's settings by name; `wake` is called after each commit that the runner should see.
    Every method raises `DeskError` where it refuses, and what the database raises: then nothing was written, or the
    same call with the same key tells what was.
    """

    def __init__(
        self, database: Database, account: Callable[[str], Account | None], *, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._account = account
        self._wake = wake

    async def create(
        self, account: Account, order: Mapping[str, object], *, key: str, asked_by: str, is_named: bool = True
    ) -> CommandRow:
        """`POST /v1/orders` with this body. Raises `InvalidRequest` with every fault at once, `KeyReused`.

        `is_named`: the caller named the account. Else `account` is the usual one, and a repeat is found wherever it was
        asked first; raises `WrongState` where that is unclear.
        """
        key = check_key(key)
        asked = request_hash("create", None, order)
        async with self._database.acquire() as connection:
            there = await find_by_key(connection, account.name, key, asked, unnamed_by=None if is_named else asked_by)
            if there is not None:
                return there
            currency = await self._currency(connection, account)
        checked = check_create(order, currency=currency)
        payable = checked.expires_after
        return await self._write_down(
            Intent(
                command_id=new_command_id(),
                account=account.name,
                key=key,
                request_hash=asked,
                asked_by=asked_by,
                kind="create",
                provider_key=provider_key(account.name, key),
                type=checked.type,
                external_reference=checked.external_reference,
                point_of_sale=checked.point_of_sale,
                amount=checked.amount,
                currency=currency,
                body=checked.body,
                # Its QR is its own: it replaces nothing on the point of sale, and nothing replaces it.
                options={"dynamic": True} if member(order, "config", "qr", "mode") == "dynamic" else {},
                valid_for_seconds=(payable or DEFAULT_VALID).total_seconds(),
                payable_for_seconds=None if payable is None else payable.total_seconds(),
            )
        )

    async def cancel(self, order_id: str, *, key: str, asked_by: str) -> CommandRow:
        """Cancels a stored order. Raises `UnknownOrder`; `WrongState` where it is paid or closed; `KeyReused`."""
        async with self._database.transaction() as connection:
            command, is_new = await cancellation(connection, order_id, key=check_key(key), asked_by=asked_by)
            crashpoints.reach("desk.intent.before_commit")
        return self._written(command, is_new=is_new)

    async def refund(
        self, order_id: str, *, payment_id: str | None, amount: str | None, key: str, asked_by: str
    ) -> CommandRow:
        """Gives back `amount` of a stored order's payment, or without an amount everything that is left.

        Reserves it under the order's lock: together with what is refunded and on its way it never exceeds what was
        paid. Raises `UnknownOrder`, `InvalidRequest`, `WrongState` (nothing paid, nothing left, more than is left),
        `KeyReused`.
        """
        key = check_key(key)
        async with self._database.transaction() as connection:
            command, is_new = await refund_intent(
                connection,
                order_id,
                payment_id=payment_id,
                amount=amount,
                key=key,
                asked_by=asked_by,
                currency_of=self._usual_currency,
            )
            crashpoints.reach("desk.intent.before_commit")
        return self._written(command, is_new=is_new)

    async def put_legacy(
        self,
        account: Account,
        external_pos_id: str,
        order: Mapping[str, object],
        *,
        ttl_seconds: int | None,
        key: str,
        asked_by: str,
        is_named: bool = True,
    ) -> CommandRow:
        """Puts a V1 order of the legacy attended QR on a point of sale, for `ttl_seconds` (600 without).

        Raises `InvalidRequest` with every fault at once, `WrongState` where the account's settings do not suffice,
        `KeyReused`. `is_named`: see `create`.
        """
        place, key = check_point_of_sale(external_pos_id), check_key(key)
        asked = request_hash("legacy_put", place, {"order": order, "ttl_seconds": ttl_seconds})
        async with self._database.acquire() as connection:
            there = await find_by_key(connection, account.name, key, asked, unnamed_by=None if is_named else asked_by)
            if there is not None:
                return there
            currency = await self._currency(connection, account)
        checked = check_legacy(order, currency=currency, ttl_seconds=ttl_seconds)
        seconds = float(ttl_seconds if ttl_seconds is not None else LEGACY_TTL_SECONDS)
        return await self._write_down(
            Intent(
                command_id=new_command_id(),
                account=account.name,
                key=key,
                request_hash=asked,
                asked_by=asked_by,
                kind="legacy_put",
                provider_key=provider_key(account.name, key),
                type="legacy_qr",
                external_reference=checked.external_reference,
                point_of_sale=place,
                amount=checked.amount,
                currency=currency,
                body=checked.body,
                options=legacy_options(account) | {"ttl_seconds": ttl_seconds},
                valid_for_seconds=seconds,
                payable_for_seconds=seconds,
            )
        )

    async def delete_legacy(
        self, account: Account, external_pos_id: str, *, key: str, asked_by: str, is_named: bool = True
    ) -> CommandRow:
        """Takes the legacy QR's order off a point of sale. Raises `InvalidRequest`, `WrongState`, `KeyReused`.

        `is_named`: see `create`.
        """
        place, key = check_point_of_sale(external_pos_id), check_key(key)
        asked = request_hash("legacy_delete", place, None)
        async with self._database.acquire() as connection:
            there = await find_by_key(connection, account.name, key, asked, unnamed_by=None if is_named else asked_by)
        if there is not None:
            return there
        return await self._write_down(
            Intent(
                command_id=new_command_id(),
                account=account.name,
                key=key,
                request_hash=asked,
                asked_by=asked_by,
                kind="legacy_delete",
                provider_key=provider_key(account.name, key),
                type="legacy_qr",
                point_of_sale=place,
                options=legacy_options(account),
            )
        )

    async def withdraw(self, command_id: str, *, asked_by: str) -> CommandRow:
        """Takes back a command that provably never left; once more for one that is withdrawn already.

        Raises `UnknownCommand`, `AlreadySent`, `WrongState` where it is settled otherwise.
        """
        return await withdraw(self._database, command_id, asked_by=asked_by)

    async def settle_by_hand(
        self, command_id: str, *, status: str, note: str, asked_by: str, order_id: str | None = None
    ) -> CommandRow:
        """A person found out what became of a command whose outcome is unknown: `done` or `refused`, and why.

        So is settled a refund that was accepted more than an hour ago. A creation that is done needs its `order_id`; a
        refund that is done has to show in the stored order. Raises `InvalidRequest`, `UnknownCommand`, `WrongState`
        where its outcome is not unknown.
        """
        command = await settle_by_hand(
            self._database, command_id, status=status, note=note, asked_by=asked_by, order_id=order_id
        )
        self._wake()
        return command

    async def find(self, command_id: str) -> CommandRow | None:
        """The command as it stands."""
        row = await self._database.fetchrow(QUERIES.read_command, command_id)
        return None if row is None else command_row(row)

    async def wait(self, command_id: str, *, seconds: float) -> CommandRow:
        """The command once it is settled, or as it stands after `seconds`; `accepted` is not settled.

        Raises `UnknownCommand`. Holds no connection while it waits.
        """
        until = time.monotonic() + seconds
        step, longest = _WAIT_STEP_SECONDS
        while True:
            command = await self.find(command_id)
            if command is None:
                raise UnknownCommand(f"there is no command {command_id}")
            left = until - time.monotonic()
            if command.is_settled or left <= 0:
                return command
            await asyncio.sleep(min(step, left))
            step = min(longest, step * 1.5)

    def _usual_currency(self, name: str) -> str | None:
        account = self._account(name)
        return None if account is None else account.currency

    async def _currency(self, connection: Any, account: Account) -> str | None:
        """What the account sells in: by its settings, else as its latest stored order says, if there is one."""
        if account.currency is not None:
            return account.currency
        currency: str | None = await connection.fetchval(QUERIES.read_latest_currency, account.name)
        return currency

    async def _write_down(self, intent: Intent) -> CommandRow:
        async with self._database.transaction() as connection:
            command, is_new = await write_down(connection, intent)
            if is_new and intent.kind in ("legacy_put", "legacy_delete"):
                await connection.execute(QUERIES.hurry_place, intent.account, intent.point_of_sale)
            crashpoints.reach("desk.intent.before_commit")
        return self._written(command, is_new=is_new)

    def _written(self, command: CommandRow, *, is_new: bool) -> CommandRow:
        crashpoints.reach("desk.intent.after_commit")
        if is_new:
            self._wake()
        return command
