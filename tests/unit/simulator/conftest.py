"""Books of a simulated provider with a frozen clock, and the captured payloads to hold them against."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.simulator.config import SimulatorConfig
from service.simulator.draws import Draws
from service.simulator.ledger import Ledger

FIXTURES = Path(__file__).parents[2] / "fixtures" / "mercadopago"
NOW = datetime(2026, 9, 14, 13, 5, 22, 727000, tzinfo=UTC)


@pytest.fixture
def ledger() -> Ledger:
    config = SimulatorConfig(seed=7)
    return Ledger(config, Draws(config.seed))


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def captured() -> Callable[[str], Any]:
    def load(name: str) -> Any:
        return json.loads((FIXTURES / name).read_text())

    return load


@pytest.fixture
def structure() -> Callable[[Any], Any]:
    """The keys and JSON types of a body, without its values."""

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: of(item) for name, item in sorted(value.items())}
        if isinstance(value, list):
            return [of(item) for item in value]
        return type(value).__name__

    return of
