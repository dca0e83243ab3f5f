"""What the probes of `cuadre serve` say while its database is frozen: it takes connections and answers nothing."""

import sys
from pathlib import Path

import pytest

from service.database.embedded import EmbeddedPostgres
from tests.support.processes import frozen, serving
from tests.support.waiting import until_sync

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find the server's processes"),
]


def test_every_probe_is_answered_while_the_database_is_frozen(tmp_path: Path, own_postgres: EmbeddedPostgres) -> None:
    assert own_postgres.pid is not None
    with serving(tmp_path, own_postgres.dsn, "http://127.0.0.1:9", arguments=("--migrate",)) as service:
        with frozen(own_postgres.pid):
            for _ in range(5):
                # `get` gives up after five seconds, and a readiness probe long before.
                status, told = service.get("/readyz")
                assert (status, told["status"]) == (503, "not_ready")
                assert told["checks"] == {"database": False, "schema": False}
                assert service.get("/healthz")[0] == 200
        until_sync(service.is_ready, what="ready again by itself")
