"""Everything that the desk refuses to write down, by what the caller can do about it.

    DeskError                 code, message; knows nothing of HTTP
    ├── InvalidRequest          the request itself is wrong; every fault at once, each with its place
    ├── KeyReused               this idempotency key stands for another request
    ├── UnknownOrder            no order of that id is stored
    ├── UnknownCommand          no command of that id is stored
    ├── WrongState              what is stored forbids it now (paid, canceled, nothing left to refund)
    └── AlreadySent             too late to withdraw: Mercado Pago may have it

What Mercado Pago refuses is no error here: it is the outcome of a command (`service.desk.outcomes`). Messages are one
line. They name places and limits, never what stood there: a body may bear a card token.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request. `path` is its place, like `order.transactions.payments[0].amount`; `message`
    says what is allowed there.
    """

    path: str
    message: str


class DeskError(Exception):
    """A request that leaves no trace: nothing is written, nothing is sent.

    `code` is one word for programs, `message` one line for people.
    """

    default_code: ClassVar[str] = "refused_here"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message


class InvalidRequest(DeskError):  # noqa: N818 - the tree reads as what is told to the caller
    """`faults` names everything that is wrong, in the order of the request; never empty."""

    default_code = "invalid_request"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(faults)
        told = "; ".join(f"{fault.path}: {fault.message}" for fault in self.faults[:_SHOWN])
        more = len(self.faults) - _SHOWN
        super().__init__(f"{told}; and {more} more" if more > 0 else told)


class KeyReused(DeskError):  # noqa: N818 - see above
    """The same idempotency key came with another request before."""

    default_code = "idempotency_key_reused"

    def __init__(self, message: str = "this idempotency key was used for another request; take a new one") -> None:
        super().__init__(message)


class UnknownOrder(DeskError):  # noqa: N818 - see above
    """No such order is stored here."""

    default_code = "unknown_order"


class UnknownCommand(DeskError):  # noqa: N818 - see above
    """No such command is stored here."""

    default_code = "unknown_command"


class WrongState(DeskError):  # noqa: N818 - see above
    """What is stored of the order, or asked of it already, forbids this now. `code` says which."""

    default_code = "wrong_state"


class AlreadySent(DeskError):  # noqa: N818 - see above
    """Only what provably never left can be withdrawn."""

    default_code = "already_sent"

    def __init__(
        self, message: str = "Mercado Pago may have this command already; cancel or refund the order instead"
    ) -> None:
        super().__init__(message)
