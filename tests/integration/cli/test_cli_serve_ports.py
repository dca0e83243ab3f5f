"""`cuadre serve` that cannot listen: one line says where, why, and which setting to change."""

import socket

import pytest

from service.cli.serve import cannot_listen
from tests.integration.cli.test_cli_process import end_of, start

NOBODY = "postgresql://u:marked-password@127.0.0.1:1/x"


async def line_of_serve(environment: pytest.MonkeyPatch, **settings: str) -> str:
    """Its one line on standard error; the code is 1."""
    usual = {"DATABASE_URL": NOBODY, "ACCESS_TOKEN": "marked-token", "PUBLIC_PORT": "0", "INTERNAL_PORT": "0"}
    hosts = {"PUBLIC_HOST": "127.0.0.1", "INTERNAL_HOST": "127.0.0.1"}
    for name, value in (usual | hosts | settings).items():
        environment.setenv(f"CUADRE_{name}", value)
    code, out, err = await end_of(await start("serve"))
    assert code == 1
    assert "marked" not in out + err
    [line] = err.splitlines()
    return line


@pytest.mark.parametrize("name", ["PUBLIC", "INTERNAL"])
async def test_a_port_that_is_taken(environment: pytest.MonkeyPatch, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = await line_of_serve(environment, **{f"{name}_PORT": str(port)})
    assert line == (
        f"cuadre: cannot listen on 127.0.0.1:{port} (the port is taken); "
        f"end what listens there, or choose another CUADRE_{name}_PORT"
    )


@pytest.mark.parametrize("name", ["PUBLIC", "INTERNAL"])
@pytest.mark.parametrize("host", ["a..b", "192.0.2.1"])
async def test_a_host_that_is_none_of_this_machine(environment: pytest.MonkeyPatch, name: str, host: str) -> None:
    line = await line_of_serve(environment, **{f"{name}_HOST": host})
    assert line.startswith(f"cuadre: cannot listen on {host}:0 (")
    assert line.endswith(f"); CUADRE_{name}_HOST must be an address of this machine, or 0.0.0.0 for all")


def test_a_name_that_nobody_knows() -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert cannot_listen(unknown, "not.a.host", 8080, "public") == (
        "cannot listen on not.a.host:8080 (Name or service not known); "
        "CUADRE_PUBLIC_HOST must be an address of this machine, or 0.0.0.0 for all"
    )
