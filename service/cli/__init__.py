"""The command `cuadre`: one module per command, imported when it is called, so that starting is fast.

Exit codes: 0 done and clean, 1 error (one line says what and what to do), 2 usage or settings, 3 drift or discrepancies
found, 130 after Ctrl-C.
"""

import os
import sys
import traceback
from collections.abc import Sequence

import typer

from service.cli.commands import cuadre

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command of `arguments` (the process's own when None) and returns its exit code. Never a traceback,
    unless `CUADRE_LOG_LEVEL` is `debug`.
    """
    try:
        code = cuadre.main(args=arguments, prog_name="cuadre", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except typer.TyperException as error:
        show = getattr(error, "show", None)
        if show is not None:
            show()
        code = error.exit_code
    except BrokenPipeError:
        code = 1
    except Exception as error:
        code = _explain(error)
    return _flushed(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """One line for each problem on standard error; the exit code that goes with it."""
    # What these import costs time that a clean `--version` or `--help` need not pay.
    from service.cli.failures import explain  # noqa: PLC0415 - see above
    from service.telemetry.logging import redact_text  # noqa: PLC0415 - see above

    lines, code = explain(error)
    if os.environ.get("CUADRE_LOG_LEVEL", "").strip().lower() == "debug":
        print(redact_text("".join(traceback.format_exception(error))), file=sys.stderr)
    for line in lines:
        print(line, file=sys.stderr)
    return code


def _flushed(code: int) -> int:
    """The code, after everything was written; a reader that left (`| head`) is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes again at its end and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
