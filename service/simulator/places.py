"""Where an order stands: a point of sale with a printed QR, or a terminal. Pure.

A printed QR shows one payable order at a time, the newest one (fact sheets: legacy-qr §1, orders §2.1, where it is an
assumption). Orders of mode `dynamic` are paid by their own QR and take no place.
"""

from .money import Json

Place = tuple[str, str, str]
"""`("pos" | "terminal", seller, name)`."""


def place_of(body: Json) -> Place | None:
    """The place an order's body names."""
    config = body.get("config")
    if not isinstance(config, dict):
        return None
    seller = str(body.get("user_id"))
    qr, point = config.get("qr"), config.get("point")
    if isinstance(point, dict) and "terminal_id" in point:
        return "terminal", seller, str(point["terminal_id"])
    if isinstance(qr, dict) and "external_pos_id" in qr and qr.get("mode", "static") != "dynamic":
        return "pos", seller, str(qr["external_pos_id"])
    return None
