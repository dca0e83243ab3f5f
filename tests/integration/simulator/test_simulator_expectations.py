"""The recorded expectations, held against a live simulator."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.simulator.simulator_expectations import ORDERS, Expectation
from tests.integration.simulator.simulator_expectations_legacy import LEGACY, SALE, V1, V2

Start = Callable[..., Awaitable[Any]]
MISSING = object()
EXPECTATIONS = (*ORDERS, *LEGACY)


def filled(value: Any, ids: dict[str, str]) -> Any:
    text = json.dumps(value)
    for name, item in ids.items():
        text = text.replace("{" + name + "}", item)
    return json.loads(text)


def member(body: Any, path: str) -> Any:
    """What stands at `a.0.b` in a body."""
    for step in path.split("."):
        if isinstance(body, list):
            body = body[int(step)] if int(step) < len(body) else MISSING
        else:
            body = body.get(step, MISSING) if isinstance(body, dict) else MISSING
    return body


def code_of(body: Any) -> list[Any]:
    """Every code an error bears, in whichever of the envelopes."""
    codes = [error["code"] for error in body.get("errors", ())] + [one["code"] for one in body.get("cause", ())]
    return [*codes, body.get("code"), body.get("error")]


async def set_up(simulator: Any, expectation: Expectation) -> dict[str, str]:
    """Run the control calls; the ids of what they made."""
    ids: dict[str, str] = {}
    if expectation.legacy is not None:
        method, path = ("POST", V1) if expectation.legacy is SALE else ("PUT", V2)
        assert (await simulator.api(method, path, json=expectation.legacy))[0] in {200, 204}
    for path, body in expectation.setup:
        told = await simulator.control(filled(path, ids), filled(body, ids))
        if path == "orders":
            ids |= {"order": told["id"], "payment": told["transactions"]["payments"][0]["id"]}
        elif path.startswith("legacy/"):
            ids["merchant_order"] = str(told["merchant_order"]["id"])
            ids["legacy_payment"] = str(told["payments"][-1]["id"]) if told["payments"] else ""
    return ids


@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=lambda one: one.name)
async def test_an_expectation(start: Start, expectation: Expectation) -> None:
    simulator = await start(start_at=None, speed=0)
    ids = await set_up(simulator, expectation)
    headers = dict(expectation.headers)
    if expectation.key is not None and expectation.method == "POST":
        headers["X-Idempotency-Key"] = expectation.key
    more = {} if expectation.body is None else {"json": filled(expectation.body, ids)}
    status, body = await simulator.api(expectation.method, filled(expectation.path, ids), headers=headers, **more)
    assert status == expectation.status, body
    if expectation.code is not None:
        assert expectation.code in code_of(body)
    for path, value in expectation.members.items():
        assert member(body, path) == value


def test_every_expectation_has_a_name_of_its_own() -> None:
    names = [expectation.name for expectation in EXPECTATIONS]
    assert len(set(names)) == len(names)
