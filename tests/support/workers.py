"""A real worker in this process that never polls twice: who waits for a poll fails the test's deadline."""

import asyncio
import time
from collections.abc import Callable

from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.sync.worker import Worker
from tests.support.provider import StubProvider

# Long enough that whoever waits for a poll fails the test's deadline.
NO_POLLS = 600.0


class Running:
    """A worker whose only poll is its first."""

    def __init__(
        self,
        database: Database,
        provider: StubProvider,
        *accounts: Account,
        concurrency: int = 32,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database, self.provider, self.accounts, self.concurrency = database, provider, accounts, concurrency
        self.clock = clock

    async def __aenter__(self) -> Worker:
        self.client = MercadoPagoClient(self.provider.url, total_timeout_seconds=5)
        await self.client.__aenter__()
        self.worker = Worker(
            self.database,
            self.client,
            concurrency=self.concurrency,
            poll_seconds=NO_POLLS,
            lease_seconds=30,
            clock=self.clock,
        )
        self.worker.follow(self.accounts)
        self.task = asyncio.create_task(self.worker.run())
        return self.worker

    async def __aexit__(self, *_: object) -> None:
        await self.worker.stop(within_seconds=5)
        await asyncio.wait_for(self.task, 5)
        await self.client.__aexit__(None, None, None)
