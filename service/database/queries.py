"""SQL by name, kept in `.sql` files beside the capability that runs it.

    -- name: claim_due_orders
    -- Takes the orders whose look is due, oldest first, and leases them.
    select ...

A query is its name, at least one comment line that says what it is for, and the statement up to the next name.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.database.errors import QueryFileError

__all__ = ["Queries", "QueryFileError", "load", "parse"]

_NAME = re.compile(r"--\s*name:\s*(?P<name>.*?)\s*$")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")


class Queries(Mapping[str, str]):
    """Statements by name: `queries.claim_due_orders` or `queries["claim_due_orders"]`."""

    def __init__(self, statements: Mapping[str, str], purposes: Mapping[str, str], source: str) -> None:
        self._statements = dict(statements)
        self._purposes = dict(purposes)
        self._source = source

    def __getitem__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise KeyError(f"{self._source} has no query named {name}") from None

    def __getattr__(self, name: str) -> str:
        # Copying and pickling ask for attributes before `_statements` exists; those must fail plainly.
        if not name.startswith("_") and name in self._statements:
            return self._statements[name]
        raise AttributeError(f"no query named {name}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)

    def purpose(self, name: str) -> str:
        """What the query is for, as its file says, in one line."""
        return self._purposes[name]


def load(package_file: Path) -> Queries:
    """Read the named statements of a `.sql` file, e.g. `load(Path(__file__).with_name("queries.sql"))`.

    Raises QueryFileError where the file is not as described above.
    """
    return parse(package_file.read_text(encoding="utf-8"), source=package_file.name)


def parse(text: str, *, source: str) -> Queries:
    """The statements in `text`; `source` names it in errors. What stands before the first name may be comments only."""
    preamble, sections = _sections(text, source)
    if any(line.strip() and not line.lstrip().startswith("--") for line in preamble):
        raise QueryFileError(f"{source}: there is SQL before the first `-- name:` line; give it a name")
    statements: dict[str, str] = {}
    purposes: dict[str, str] = {}
    for name, lines in sections:
        if not _IDENTIFIER.fullmatch(name):
            raise QueryFileError(f"{source}: {name!r} is no name for a query; use lower case letters, digits, _")
        if name in statements or hasattr(Queries, name):
            raise QueryFileError(f"{source}: the name {name} is taken; choose another")
        purposes[name], statements[name] = _purpose_and_statement(name, lines, source)
    return Queries(statements, purposes, source)


def _sections(text: str, source: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    preamble: list[str] = []
    sections: list[tuple[str, list[str]]] = []
    current = preamble
    for line in text.splitlines():
        header = _NAME.match(line)
        if header:
            current = []
            sections.append((header["name"], current))
        else:
            current.append(line)
    if not sections:
        raise QueryFileError(f"{source}: no query in it; a query begins with `-- name: its_name`")
    return preamble, sections


def _purpose_and_statement(name: str, lines: list[str], source: str) -> tuple[str, str]:
    purpose: list[str] = []
    for line in lines:
        if not line.startswith("--"):
            break
        purpose.append(line.removeprefix("--").strip())
    if not any(purpose):
        raise QueryFileError(f"{source}: query {name} lacks the comment line below its name that says what it is for")
    statement = "\n".join(lines[len(purpose) :]).strip().removesuffix(";").rstrip()
    if not any(line.strip() and not line.lstrip().startswith("--") for line in statement.splitlines()):
        raise QueryFileError(f"{source}: query {name} has no statement")
    return " ".join(purpose).strip(), statement
