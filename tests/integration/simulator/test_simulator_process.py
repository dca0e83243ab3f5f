"""`python -m service.simulator` as a process: it says where it is, serves on loopback, and ends when asked."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE

import aiohttp
import pytest

from service.simulator.__main__ import main, parse_arguments
from service.simulator.config import DEFAULT_WEBHOOK_URL


async def test_it_serves_until_it_is_told_to_end() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.simulator", "--port", "0", "--seed", "5", "--webhook-url", "", stdout=PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode()
        assert line.endswith(", seed 5, notifications to nowhere\n")
        base = line.split(" on ")[1].split(",")[0]
        assert base.startswith("http://127.0.0.1:")
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{base}/_sim/orders", json={"status": "processed"}) as response:
                order = json.loads(await response.read())
            headers = {"Authorization": "Bearer APP_USR-simulator"}
            async with session.get(f"{base}/v1/orders/{order['id']}", headers=headers) as response:
                assert json.loads(await response.read()) == order
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            assert await process.wait() == 0


def test_arguments_become_settings() -> None:
    config = parse_arguments(["--token", "APP_USR-a=1", "--token", "APP_USR-b", "--user-id", "2", "--secret", "s"])
    assert config.access_tokens == {"APP_USR-a": "1", "APP_USR-b": "2"}
    assert (config.webhook_url, config.port, config.host) == (DEFAULT_WEBHOOK_URL, 8090, "127.0.0.1")
    assert "APP_USR" not in repr(config)
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--speed", "-1"])
    assert ended.value.code == 2


def test_a_taken_port_is_one_line(unused_tcp_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", unused_tcp_port)):
        assert main(["--port", str(unused_tcp_port)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
