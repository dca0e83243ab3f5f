"""Erasing what is stored about one payer, and leaving the money: amounts, statuses and ids stay as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from service.database.pool import Database
from service.database.queries import load
from service.mercadopago.json_text import NotJson, canonical_hash, parse_json
from service.mercadopago.payer import names_payer, without_payer
from service.sync.locks import lock_orders

QUERIES = load(Path(__file__).with_name("erase.sql"))

BATCH = 100
# Of those that are erased in one transaction: all their texts are read and written anew within it, and it may not stand
# still for longer than a few seconds (`session_settings`).
ERASED_BATCH = 10


@dataclass(frozen=True, slots=True)
class Erased:
    """How many orders were gone through, and how many stored texts were changed, by table."""

    orders: int
    texts: dict[str, int]


async def find_payer_orders(database: Database, payer: str) -> list[str]:
    """What names this payer (an id, an e-mail, an identification number): ids of orders, or the keys of texts without.

    Compared whole, in whatever case. Reads every payload, so it takes its time.
    """
    keys = [row["key"] for row in await database.fetch(QUERIES.find_payer_candidates, payer)]
    found: set[str] = set()
    for start in range(0, len(keys), BATCH):
        rows = await database.fetch(QUERIES.read_payer_texts, *_keys(keys[start : start + BATCH]))
        found.update(row["key"] for row in rows if names_payer(row["text"], payer))
    return sorted(found)


def _keys(keys: Sequence[str]) -> tuple[list[str], list[int]]:
    """The keys, and the numbers of the notifications among them."""
    return list(keys), [int(key.split(" ")[1]) for key in keys if key.startswith("notification ")]


async def erase_payers(database: Database, order_ids: Sequence[str]) -> Erased:
    """Takes the payer out of all that is stored of these orders, and out of all that will be read of them.

    In transactions of some orders each: what is interrupted is done again by the same call.
    """
    texts: dict[str, int] = {}
    for start in range(0, len(order_ids), ERASED_BATCH):
        async with database.transaction() as connection:
            ids = sorted(order_ids[start : start + ERASED_BATCH])
            await lock_orders(connection, ids)
            for place, number in (await _erase(connection, ids)).items():
                texts[place] = texts.get(place, 0) + number
    return Erased(len(order_ids), texts)


async def _erase(connection: Any, ids: list[str]) -> dict[str, int]:
    changed: dict[str, list[tuple[str, str, str, bytes]]] = {}
    for row in await connection.fetch(QUERIES.read_payer_texts, *_keys(ids)):
        try:
            before = parse_json(row["text"].encode())
        except NotJson:
            # An unreadable answer, which goes as a whole.
            continue
        after = without_payer(before)
        if after is not before:
            found = (row["key"], row["row_key"], after.text, canonical_hash(after.value))
            changed.setdefault(row["place"], []).append(found)
    current = {order_id: (text, digest) for order_id, _, text, digest in changed.get("orders", ())}
    await connection.execute(
        QUERIES.erase_in_orders,
        ids,
        [current[order_id][0] if order_id in current else None for order_id in ids],
        [current[order_id][1] if order_id in current else None for order_id in ids],
    )
    keys = {place: [one[1].split(" ") for one in found] for place, found in changed.items()}
    if versions := changed.get("order_versions"):
        await connection.execute(
            QUERIES.erase_in_versions,
            [one[0] for one in versions],
            [int(number) for number, _ in keys["order_versions"]],
            [date.fromisoformat(period) for _, period in keys["order_versions"]],
            [one[2] for one in versions],
        )
    if notifications := changed.get("notifications"):
        await connection.execute(
            QUERIES.erase_in_notifications,
            [int(number) for number, _ in keys["notifications"]],
            [date.fromisoformat(period) for _, period in keys["notifications"]],
            [one[2] for one in notifications],
        )
    for part, query in (("body", QUERIES.erase_in_command_bodies), ("answer", QUERIES.erase_in_command_answers)):
        texts = {one[1].split(" ")[0]: one[2] for one in changed.get("commands", ()) if one[1].endswith(part)}
        if texts:
            await connection.execute(query, list(texts), list(texts.values()))
    await connection.execute(QUERIES.forget_unreadable_payloads, ids)
    return {place: len(found) for place, found in changed.items()}
