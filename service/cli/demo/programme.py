"""The whole plan of a run: plants and ordinary lives, in the order in which they begin."""

from random import Random

from service.cli.demo.lives import draw_life, sure_sale
from service.cli.demo.plan import Prefix, Scene
from service.cli.demo.plants import PLANTS

ORDERS_PER_ROUND = 250
"""Every so many orders all plants come once more."""


def plan_day(run: str, seed: int, orders: int) -> list[Scene]:
    """Scenes of exactly `orders` orders together; equal for equal arguments.

    The first is an ordinary sale that is sure to be told of: its arrival is timed. Plants are at most half of them all,
    so a very short day has not every one. What takes long begins early.
    """
    prefix = Prefix(run, Random(seed))  # noqa: S311 - a plan that can be repeated, no secret  # nosec B311
    plants: list[Scene] = []
    number = 1
    for maker in [maker for _ in range(max(1, orders // ORDERS_PER_ROUND)) for maker in PLANTS]:
        scene = maker(prefix, number + 1)
        if number + len(scene) > orders // 2:
            break
        plants.append(scene)
        number += len(scene)
    lives = [draw_life(prefix, place) for place in range(number + 1, orders + 1)]
    slow = plants + [scene for scene in lives if scene[0].runs_out_in_seconds is not None]
    prefix.random.shuffle(slow)
    return [sure_sale(prefix, 1), *_merged(slow, [scene for scene in lives if scene[0].runs_out_in_seconds is None])]


def _merged(slow: list[Scene], rest: list[Scene]) -> list[Scene]:
    """The slow ones among the first half of the rest, so that neither comes in a lump."""
    merged: list[Scene] = []
    every = max(1, len(rest) // 2 // max(1, len(slow)))
    for place, scene in enumerate(slow):
        merged.append(scene)
        merged.extend(rest[place * every : (place + 1) * every])
    return merged + rest[len(slow) * every :]


def plan_trickle(run: str, seed: int, first_number: int) -> Scene:
    """One more ordinary order, for the time after the report."""
    return draw_life(Prefix(run, Random(f"{seed}-{first_number}")), first_number)  # noqa: S311 - as above  # nosec B311
