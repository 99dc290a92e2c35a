"""How a command ends. Scripts rely on the exit statuses; docs/client.md lists them."""

from __future__ import annotations

from typing import Final

OK: Final = 0
REFUSED: Final = 1
"""The server answered with an error."""
USAGE: Final = 2
"""The arguments make no sense; argparse ends with the same status."""
UNREACHABLE: Final = 3
"""No server or no cluster answered."""
NOT_FOUND: Final = 4
"""There is no such file, model or ModelDeployment."""
DIFFERENT: Final = 5
"""Two models that were compared do not answer the same."""
INTERRUPTED: Final = 130


class CliError(Exception):
    """A command cannot go on.

    Parameters
    ----------
    message:
        For the user, on standard error.
    status:
        Exit status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
