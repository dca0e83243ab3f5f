"""The simulator as a process of its own, and a client that speaks to it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from tests.support.processes import TOKEN, Simulator, free_port
from tests.support.processes import simulator as simulator_process


@pytest.fixture(scope="session")
def running_simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator_process(tmp_path_factory.mktemp("simulator"), webhook_port=free_port()) as running:
        # Nobody listens: the notifications are other tests' affair.
        running.tell("webhook", {"url": None})
        yield running


@pytest.fixture
def simulator(running_simulator: Simulator) -> Simulator:
    """With nothing in it."""
    running_simulator.tell("reset", {})
    return running_simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[MercadoPagoClient]:
    async with MercadoPagoClient(simulator.url) as speaking:
        yield speaking


@pytest.fixture
def account() -> Account:
    return Account("shop", user_id="2100457788", access_token=TOKEN, legacy_qr="v1", legacy_store_id="SUC001")
