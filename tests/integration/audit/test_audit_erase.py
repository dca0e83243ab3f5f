"""One payer's data goes from everything stored; the money and everybody else's data stay."""

import json
from typing import Any

from service.audit.erase import erase_payers, find_payer_orders
from service.database.pool import Database
from service.mercadopago.json_text import canonical_hash, parse_json

ANA = {"id": 446566691, "email": "ana@example.com", "identification": {"type": "DNI", "number": "30111222"}}
LUIS = {"id": 5, "email": "luis@example.com"}


def _order(order_id: str, payer: dict[str, Any] | None) -> str:
    order: dict[str, Any] = {"id": order_id, "total_amount": "10.00", "status": "processed"}
    return json.dumps(order if payer is None else order | {"payer": payer})


async def _store(database: Database, order_id: str, earlier: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
    await database.execute(
        """
        insert into cuadre.orders (order_id, account, status, total_amount, payload, payload_hash, version, claimed_at,
            fetched_at, first_seen_at, changed_at)
        values ($1, 'default', 'processed', 10, $2::jsonb, '\\x00', 2, now(), now(), now(), now())
        """,
        order_id, _order(order_id, now),
    )  # fmt: skip
    for version, payer in ((1, earlier), (2, now)):
        await database.execute(
            """
            insert into cuadre.order_versions (order_id, version, period, account, paid_amount, refunded_amount,
                claimed_at, observed_at, cause, payload)
            values ($1, $2, cuadre.period_of(now()), 'default', 10, 0, now(), now(), 'look', $3::jsonb)
            """,
            order_id, version, _order(order_id, payer),
        )  # fmt: skip


async def _everything(database: Database) -> str:
    rows = await database.fetch(
        "select payload::text as text from cuadre.orders union all select payload::text from cuadre.order_versions "
        "union all select coalesce(body, '') || coalesce(answer::text, '') from cuadre.commands"
    )
    return "\n".join(row["text"] for row in rows)


async def test_a_payer_goes_from_what_is_stored_now_and_what_was(database: Database) -> None:
    await _store(database, "ORD1", ANA, ANA)
    await _store(database, "ORD2", ANA, None)
    await _store(database, "ORD3", LUIS, LUIS)

    for name in ("ana@example.com", "Ana@Example.com", "446566691", "30111222"):
        assert await find_payer_orders(database, name) == ["ORD1", "ORD2"]
    erased = await erase_payers(database, ["ORD1", "ORD2"])

    assert (erased.orders, erased.texts) == (2, {"orders": 1, "order_versions": 3})
    text = await _everything(database)
    assert "ana@" not in text
    assert "30111222" not in text
    assert text.count("luis@example.com") == 3
    assert text.count('"total_amount": "10.00"') == 9
    assert await find_payer_orders(database, "ana@example.com") == []


async def test_the_order_keeps_a_hash_of_what_it_holds_and_remembers_the_wish(database: Database) -> None:
    await _store(database, "ORD1", ANA, ANA)

    await erase_payers(database, ["ORD1"])

    row = await database.fetchrow("select payload::text as text, payload_hash, payer_erased_at from cuadre.orders")
    assert row is not None
    assert row["payload_hash"] == canonical_hash(parse_json(row["text"].encode()).value)
    assert row["payer_erased_at"] is not None


async def test_commands_lose_their_payer_once_they_are_settled(database: Database) -> None:
    await _store(database, "ORD1", None, None)
    for number, settled in ((1, "now()"), (2, "null")):
        await database.execute(
            f"""
            insert into cuadre.commands (command_id, account, idempotency_key, request_hash, asked_by, asked_at, kind,
                order_id, body, provider_key, status, settled_at, answer)
            values ($1, 'default', $1, '\\x00', 'till', now(), 'create',
                'ORD1', $2::text, $1, 'done', {settled}, $2::text::jsonb)
            """,
            f"CMD{number}", _order("ORD1", ANA),
        )  # fmt: skip

    assert await find_payer_orders(database, "ana@example.com") == ["ORD1"]
    await erase_payers(database, ["ORD1"])

    bodies = [row["body"] for row in await database.fetch("select body from cuadre.commands order by command_id")]
    assert "ana@" not in bodies[0]
    assert "ana@" in bodies[1], "it is still to be sent as it was asked for"


async def test_nobody_of_that_name(database: Database) -> None:
    await _store(database, "ORD1", ANA, None)

    assert await find_payer_orders(database, "ana") == []
    assert await find_payer_orders(database, 'x" || true') == []


async def test_texts_of_no_order_are_found_and_mended_too(database: Database) -> None:
    await database.execute(
        """
        insert into cuadre.commands (command_id, account, idempotency_key, request_hash, asked_by, asked_at, kind, body,
            provider_key, status, settled_at)
        values ('CMD9', 'default', 'k', '\\x00', 'web', now(), 'create', $1, 'p', 'refused', now())
        """,
        _order("none", {"cardholder": {"name": "ANA"}, "email": "ana@example.com"}),
    )
    await database.execute(
        """
        insert into cuadre.notifications (period, account, topic, verified, verification, received_at, last_received_at,
            copy_key, path, query, headers, body)
        values (cuadre.period_of(now()), 'default', 'payment', false, 'missing', now(), now(), '\\x01', '/', '{}', '{}',
            $1::jsonb)
        """,
        json.dumps({"data": {"id": "1", "payer": ANA}}),
    )
    await database.execute(
        "insert into cuadre.unreadable_payloads values ('ORD8', 'default', 'cut', $1, now())",
        '{"payer": "ana@example.com',
    )

    found = await find_payer_orders(database, "ana@example.com")
    assert len(found) == 3
    await erase_payers(database, found)

    assert await find_payer_orders(database, "ana@example.com") == []
    assert await database.fetchval("select count(*) from cuadre.commands where body like '%total_amount%'") == 1


async def test_a_name_that_stands_elsewhere_is_nobodys(database: Database) -> None:
    await _store(database, "ORD1", LUIS, LUIS)
    await database.execute('update cuadre.orders set payload = payload || \'{"description": "ana@example.com"}\'')

    assert await find_payer_orders(database, "ana@example.com") == []
