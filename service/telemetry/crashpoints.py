"""Crash points: named places where a test makes this process die as `kill -9` would.

`reach("desk.claimed")` does nothing unless the environment variable `CUADRE_CRASH_AT` names that very point, read once
when this module is imported; then the process ends at once: nothing is flushed, closed, rolled back or released. A test
for a point starts a process with the variable set, waits until it is dead, starts another without it, and compares the
end with a run that never died.

Names are `room.moment`, each used at one place in the code. `reach` costs one comparison and may stand in hot code.
"""

import os
from typing import Final

VARIABLE: Final = "CUADRE_CRASH_AT"
EXIT_CODE: Final = 137

_CRASH_AT: Final = os.environ.get(VARIABLE)


def reach(name: str) -> None:
    """Dies here, with the exit code of a killed process, if this is the point to crash at."""
    if name == _CRASH_AT:
        os._exit(EXIT_CODE)
