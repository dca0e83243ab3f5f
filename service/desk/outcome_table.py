"""What Mercado Pago's answers to commands mean: one table (fact sheet of the Orders API, §1.1, §7, §8; legacy fact
sheet, §1, §2, §5). Pure.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

CREATE, CANCEL, REFUND = "create", "cancel", "refund"
LEGACY_PUT, LEGACY_DELETE = "legacy_put", "legacy_delete"
KINDS = (CREATE, CANCEL, REFUND, LEGACY_PUT, LEGACY_DELETE)

BUSY_TERMINAL = frozenset(
    {"already_queued_order_on_terminal", "already_queued_order_for_terminal", "already_queued_order_for_device"}
)
"""One code in three spellings: the live API's, the reference's, an older list's."""


class Meaning(Enum):
    """What an answer says, before it is known what was tried earlier."""

    SUCCESS = "Mercado Pago did it, or has begun to"
    EXISTS_UNPAID = "the order was made, and its payment declined, where the order says so"
    REFUSED_OR_OURS = "no; after an attempt of unknown outcome: perhaps because that one was heard"
    ALREADY = "it is so already, whoever did it"
    ALREADY_OR_OURS = "it is so already: our doing only if an attempt of unknown outcome came before"
    NOTHING_THERE = "nothing there to take away"
    NOT_YET = "not now; nothing happened; the same call works soon"
    NOT_FOUND_YET = "not found, which may be lag right after a creation"
    STILL_RUNNING = "an attempt under this key may be at work"
    KEY_CONFLICT = "this key stands for another request there"
    THROTTLED = "too many calls; nothing happened"
    FORBIDDEN = "this call is forbidden, and nothing says why; nothing happened"
    ACCOUNT_REFUSED = "the token is refused, for this and every other call; nothing happened"
    NOT_CONNECTED = "no connection was made; nothing happened"
    OUTAGE = "no usable answer: it may have happened"


class Row(NamedTuple):
    """An answer of `statuses` (first, last) with one of `codes` to one of `kinds`; None stands for any."""

    kinds: tuple[str, ...] | None
    statuses: tuple[int, int]
    codes: frozenset[str | None] | None
    meaning: Meaning


def _rows() -> Iterator[Row]:
    """The first row that fits decides."""
    any_refusal = (400, 499)
    yield Row(None, (200, 299), None, Meaning.SUCCESS)
    yield Row(None, (0, 399), None, Meaning.OUTAGE)  # redirects: nobody knows who answered
    yield Row(None, (408, 408), None, Meaning.OUTAGE)
    yield Row(None, (500, 500), frozenset({"idempotency_validation_failed"}), Meaning.STILL_RUNNING)
    yield Row(None, (500, 999), None, Meaning.OUTAGE)

    yield Row((CREATE,), (402, 402), None, Meaning.EXISTS_UNPAID)
    yield Row(None, (423, 423), None, Meaning.STILL_RUNNING)
    yield Row(None, (425, 425), None, Meaning.NOT_YET)
    yield Row(None, (429, 429), None, Meaning.THROTTLED)

    # 4295, 4296: the older APIs' trouble with keys. 400 under the newer API for points of sale.
    yield Row(None, any_refusal, frozenset({"idempotency_key_already_used", "4295", "4296"}), Meaning.KEY_CONFLICT)

    # 401 is the account's, but where it is about this one order. 403 is, where the policies say it: any gateway or
    # firewall forbids single calls, and the other tills' sales do not wait for what one of them is refused.
    yield Row((CANCEL, REFUND), (401, 401), frozenset({"user_not_authorized"}), Meaning.REFUSED_OR_OURS)
    yield Row(None, (401, 401), None, Meaning.ACCOUNT_REFUSED)
    yield Row(None, (403, 403), frozenset({"PA_UNAUTHORIZED_RESULT_FROM_POLICIES"}), Meaning.ACCOUNT_REFUSED)
    yield Row(None, (403, 403), frozenset({None, "unauthorized", "forbidden"}), Meaning.FORBIDDEN)
    yield Row((LEGACY_PUT, LEGACY_DELETE), (400, 400), frozenset({"invalid_access_token"}), Meaning.ACCOUNT_REFUSED)

    yield Row((CREATE,), any_refusal, BUSY_TERMINAL, Meaning.REFUSED_OR_OURS)

    canceled = frozenset({"order_already_canceled", "order_already_cancelled"})
    yield Row((CANCEL,), any_refusal, canceled, Meaning.ALREADY)
    yield Row((CANCEL,), any_refusal, frozenset({"cannot_cancel_order"}), Meaning.REFUSED_OR_OURS)

    yield Row((REFUND,), any_refusal, frozenset({"order_already_refunded"}), Meaning.ALREADY_OR_OURS)
    no_more = {"cannot_refund_order", "refund_amount_exceeds", "amount_not_refundable", "payment_not_refundable"}
    no_more |= {"max_refunds_exceeded", "action_not_allowed_for_current_state", "2063"}
    yield Row((REFUND,), any_refusal, frozenset(no_more), Meaning.REFUSED_OR_OURS)

    for_now = {"processor_communication_error", "post_processing_operation_pending", "movement_operations_pending"}
    for_now |= {"refund_in_progress", "order_refund_already_in_process", "resource_locked"}
    yield Row(None, any_refusal, frozenset(for_now), Meaning.NOT_YET)
    yield Row(None, (422, 422), frozenset({"unprocessable_entity"}), Meaning.NOT_YET)

    no_order = frozenset({None, "order_not_found", "not_found", "resource_not_found", "2000"})
    yield Row((CANCEL, REFUND), (404, 404), no_order, Meaning.NOT_FOUND_YET)

    unknown_place = frozenset({"pos_obtainment_by_external_id_error", "invalid_externalPosId", "invalid_collectorId"})
    yield Row((LEGACY_DELETE,), (404, 404), unknown_place, Meaning.REFUSED_OR_OURS)
    nothing = frozenset({"point_of_sale_in_store_order_not_found"})
    yield Row((LEGACY_DELETE,), any_refusal, nothing, Meaning.NOTHING_THERE)
    # Said of an empty place, and of other failures; any other 404 may be the gateway's. The sale may be up.
    yield Row((LEGACY_DELETE,), any_refusal, frozenset({"in_store_order_delete_error"}), Meaning.OUTAGE)
    yield Row((LEGACY_DELETE,), (404, 404), None, Meaning.OUTAGE)

    # Whatever it says: after an attempt of unknown outcome, who refuses may be a gateway that knows nothing of it.
    yield Row(None, any_refusal, None, Meaning.REFUSED_OR_OURS)


TABLE = tuple(_rows())

_POLICY_AGENT = "at least one policy returned unauthorized"


def meaning_of(kind: str, status: int, code: str | None, message: str | None = None) -> Meaning:
    """What an HTTP answer means for a command of `kind`.

    `message` tells the gateway's 403, whose code is not sure. A 400 with neither code nor message is a page of whatever
    stands before the API, and says nothing of what became of the call behind it.
    """
    if status == 400 and not code and not message:
        return Meaning.OUTAGE if kind == LEGACY_DELETE else Meaning.STILL_RUNNING
    if status == 403 and (message or "").lower().startswith(_POLICY_AGENT):
        return Meaning.ACCOUNT_REFUSED
    for row in TABLE:
        first, last = row.statuses
        if (
            first <= status <= last
            and (row.kinds is None or kind in row.kinds)
            and (row.codes is None or code in row.codes)
        ):
            return row.meaning
    return Meaning.OUTAGE
