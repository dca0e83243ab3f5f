"""The plan of a day: the same for the same seed, complete, and told apart by nothing but its seed."""

from collections import Counter

import pytest

from service.cli.demo.plan import Do, PlannedOrder, Scene
from service.cli.demo.plants import NOT_PLANTED
from service.cli.demo.programme import plan_day, plan_trickle
from service.orders.rules import RULES


def orders_of(scenes: list[Scene]) -> list[PlannedOrder]:
    return [order for scene in scenes for order in scene]


def planted_rules(scenes: list[Scene]) -> Counter[str]:
    plants = [order.plant for order in orders_of(scenes) if order.plant is not None]
    return Counter(rule for plant in plants for rule, _ in plant.open_rules)


def test_the_same_seed_gives_the_same_day() -> None:
    assert plan_day("run", 7, 300) == plan_day("run", 7, 300)


def test_another_seed_gives_another_day() -> None:
    assert plan_day("run", 7, 300) != plan_day("run", 8, 300)


@pytest.mark.parametrize("orders", [1, 2, 10, 60, 300, 500])
def test_a_day_has_exactly_the_orders_asked_for(orders: int) -> None:
    assert len(orders_of(plan_day("run", 1, orders))) == orders


def test_every_rule_is_planted_or_said_not_to_be() -> None:
    assert set(planted_rules(plan_day("run", 1, 60))) == set(RULES) - NOT_PLANTED.keys()


def test_a_longer_day_has_every_plant_twice() -> None:
    once, twice = planted_rules(plan_day("run", 1, 300)), planted_rules(plan_day("run", 1, 500))
    assert twice == Counter({rule: 2 * count for rule, count in once.items()})


def test_no_two_scenes_share_a_reference() -> None:
    scenes = plan_day("demo-20260914-130522", 1, 500)
    references = [{str(order.create["external_reference"]) for order in scene} for scene in scenes]
    assert all(len(of_scene) == 1 for of_scene in references)
    assert len(set.union(*references)) == len(scenes)
    assert all(len(reference) <= 64 for of_scene in references for reference in of_scene)


def test_all_types_and_all_ways_to_end_occur() -> None:
    orders = orders_of(plan_day("run", 3, 500))
    changes = {step.change for order in orders for step in order.steps if isinstance(step, Do)}
    assert {str(order.create["type"]) for order in orders} == {"qr", "point", "online"}
    assert changes >= {"pay", "refund", "cancel", "fail", "chargeback", "action_required", "processing", "terminal"}
    assert any(order.runs_out_in_seconds is not None for order in orders)


def test_the_first_order_is_an_ordinary_one() -> None:
    (first, *_) = orders_of(plan_day("run", 5, 300))
    assert first.plant is None
    assert first.runs_out_in_seconds is None


def test_the_trickle_goes_on_with_new_references() -> None:
    day = {str(order.create["external_reference"]) for order in orders_of(plan_day("run", 5, 60))}
    later = orders_of([plan_trickle("run", 5, number) for number in range(61, 81)])
    assert all(order.plant is None for order in later)
    assert not day & {str(order.create["external_reference"]) for order in later}
    assert plan_trickle("run", 5, 61) == plan_trickle("run", 5, 61)
