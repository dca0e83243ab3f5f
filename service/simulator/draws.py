"""Seeded draws keyed by what they are about, so that the order of arrival cannot change them."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """Independent numbers per key: the same seed and key give the same number, in any order of asking."""

    def __init__(self, seed: int) -> None:
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start over with another seed."""
        self.seed = seed
        self._key = str(seed).encode()

    def number(self, *about: object) -> int:
        """A whole number of 128 bits."""
        text = "\x1f".join(map(str, about))
        return int.from_bytes(blake2b(text.encode(), digest_size=16, key=self._key).digest(), "big")

    def fraction(self, *about: object) -> float:
        """A number in [0, 1)."""
        return (self.number(*about) >> 75) / 2**53

    def below(self, limit: int, *about: object) -> int:
        """A whole number in [0, limit)."""
        return self.number(*about) % limit

    def pick(self, choices: Sequence[T], *about: object) -> T:
        """One of the choices."""
        return choices[self.below(len(choices), *about)]
