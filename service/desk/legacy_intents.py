"""What the legacy attended QR needs of an account before anything is put on one of its points of sale."""

from typing import Any

from service.desk.errors import WrongState
from service.mercadopago.account import Account


def legacy_options(account: Account) -> dict[str, Any]:
    """The call's generation (`v1`, `v2`) and store, fixed when it is asked: every attempt is the same call.

    Raises `WrongState`, naming the setting that is missing.
    """
    generation = account.legacy_qr or "v1"
    if account.user_id is None:
        raise WrongState(f"set user_id of account {account.name}: the legacy QR's addresses bear it", code="no_user_id")
    if generation == "v2" and account.legacy_store_id is None:
        raise WrongState(
            f"set legacy_store_id of account {account.name}: the V2 addresses of the legacy QR bear it",
            code="no_legacy_store",
        )
    return {"generation": generation, "external_store_id": account.legacy_store_id}
