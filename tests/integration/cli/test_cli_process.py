"""Commands as processes: signals, pipes, ports, exit codes."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process

import aiohttp
import pytest

from service.database.pool import Database
from tests.integration.cli.cli_support import DEADLINE_SECONDS, Cuadre, Provider, order_fixture, until

ORDER = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"


async def start(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE
    )


async def end_of(process: Process) -> tuple[int, str, str]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_ctrl_c_ends_a_command_quietly_and_gives_its_order_back(
    cuadre: Cuadre, provider: Provider, database: Database
) -> None:
    del cuadre
    provider.hangs = True
    process = await start("sync", ORDER)
    await until(lambda: provider.asked == [ORDER])
    process.send_signal(signal.SIGINT)
    assert await end_of(process) == (130, "", "")
    row = await database.fetchrow("select leased_until, attempts, due_at <= now() as due from cuadre.sync")
    assert row is not None
    assert dict(row) == {"leased_until": None, "attempts": 0, "due": True}


async def test_a_reader_that_leaves_is_no_error(cuadre: Cuadre, provider: Provider) -> None:
    provider.orders[ORDER] = order_fixture("order-processed-qr")
    assert (await cuadre("sync", ORDER)).code == 0
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", "orders", "list", stdout=writer, stderr=PIPE
    )
    os.close(writer)
    assert await end_of_errors(process) == (0, "")


async def end_of_errors(process: Process) -> tuple[int, str]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


async def test_the_exit_code_reaches_the_shell(cuadre: Cuadre) -> None:
    del cuadre
    code, out, err = await end_of(await start("orders", "show", ORDER))
    assert (code, out) == (1, "")
    assert "no order" in err
    assert (await end_of(await start("orders", "show")))[0] == 2


async def test_the_simulator_says_where_it_is_and_ends_when_told(environment: pytest.MonkeyPatch) -> None:
    del environment
    process = await start("simulator", "--port", "0", "--seed", "7", "--webhook-url", "", "--secret", "marked")
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        line = (await process.stdout.readline()).decode()
    assert "seed 7" in line
    url = next(word for word in line.replace(",", " ").split() if word.startswith("http://"))
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_sim/orders") as answer:
        assert answer.status == 200
    port = url.rpartition(":")[2]
    taken = await end_of(await start("simulator", "--port", port))
    assert taken[0] == 1
    assert f"cannot listen on 127.0.0.1:{port}" in taken[2]
    process.send_signal(signal.SIGTERM)
    assert (await end_of(process))[0] == 0
