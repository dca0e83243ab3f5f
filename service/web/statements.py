"""List queries with optional filters, written whole in `queries.sql`.

A line that ends in `-- if NAME` stands only where the request gives NAME, and `:NAME` is the parameter of that name.
So each combination of filters is its own statement, planned for itself; `($1 is null or account = $1)` would hide the
indexes from a plan that is kept. Nothing of a request ever becomes part of a statement's text.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from service.database.queries import load

QUERIES = load(Path(__file__).with_name("queries.sql"))

_CONDITION = re.compile(r"\s*-- if (?P<name>[a-z_]+)$")
_PARAMETER = re.compile(r"(?<![:\w]):(?P<name>[a-z_]+)")


def compose(template: str, given: Mapping[str, object]) -> tuple[str, list[object]]:
    """The statement for the filters that are `given` (None: not given), and its arguments in order.

    Raises KeyError where a line that stands names a parameter that is not given: a mistake in `queries.sql`.
    """
    values = {name: value for name, value in given.items() if value is not None}
    lines = []
    for line in template.splitlines():
        condition = _CONDITION.search(line)
        if condition is None:
            lines.append(line)
        elif condition["name"] in values:
            lines.append(line[: condition.start()])
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${numbers.setdefault(match['name'], len(numbers) + 1)}"

    text = _PARAMETER.sub(number, "\n".join(lines))
    return text, [values[name] for name in numbers]
