"""`GET /api/v1/completeness`: the certificates as programs read them."""

from datetime import UTC, datetime

from service.audit.completeness import QUERIES
from service.database.pool import Database
from tests.integration.web.internal_port import serve

NOON = datetime(2026, 9, 14, 12, 0, 0, tzinfo=UTC)


async def test_certificates_by_account_with_what_holds_them_up(database: Database) -> None:
    for account in ("second", "default"):
        await database.execute(QUERIES.begin_certificate, account, NOON)
    await database.execute(
        "update cuadre.completeness set blocked_by = $1, blind_types = $2, last_error = $3, checked_at = $4, "
        "types_since = jsonb_build_object('point', $4::timestamptz), "
        "complete_until = complete_until + interval '3 hours' where account = 'second'",
        ["ORD00000000000000000000000001"],
        ["qr"],
        "timeout: no whole answer within 10 s",
        NOON,
    )
    async with serve(database) as internal:
        document = await internal.get("/api/v1/completeness")
        status, error = await internal.refused("/api/v1/completeness", nonsense="1")
    assert (status, error["code"]) == (400, "bad_parameters")
    assert [row["account"] for row in document["data"]] == ["default", "second"]
    assert document["data"][1] == {
        "account": "second",
        "complete_since": "2026-09-14T12:00:00Z",
        "complete_until": "2026-09-14T15:00:00Z",
        "checked_at": "2026-09-14T12:00:00Z",
        "blocked_by": ["ORD00000000000000000000000001"],
        "blind_types": ["qr"],
        "types_since": {"point": "2026-09-14T12:00:00Z"},
        "last_error": "timeout: no whole answer within 10 s",
        "excused_orders": 0,
    }
    first = document["data"][0]
    assert (first["blocked_by"], first["blind_types"], first["last_error"]) == ([], [], None)
