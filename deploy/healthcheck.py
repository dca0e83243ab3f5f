"""Exit code 0 when `/healthz` of the internal port answers 200 within three seconds, else 1 and one line saying why.

Reads `CUADRE_INTERNAL_HOST` and `CUADRE_INTERNAL_PORT`. Plain `http.client`: the image has no curl, and no proxy
setting of the environment comes between.
"""

import http.client
import ipaddress
import os
import sys


def reachable(host: str) -> str:
    """Where to knock when the service listens on `host`: on every address means on the loopback one too."""
    try:
        address = ipaddress.ip_address(host or "0.0.0.0")  # noqa: S104 # nosec B104 # asked about, never bound
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return host


def main() -> int:
    host = reachable(os.environ.get("CUADRE_INTERNAL_HOST", ""))
    port = os.environ.get("CUADRE_INTERNAL_PORT", "") or "9090"
    try:
        connection = http.client.HTTPConnection(host, int(port), timeout=3)
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"healthz does not answer on port {port}: {error}", file=sys.stderr)  # noqa: T201 # Docker shows it
        return 1
    if status != http.client.OK:
        print(f"healthz answers {status}", file=sys.stderr)  # noqa: T201 # Docker shows it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
