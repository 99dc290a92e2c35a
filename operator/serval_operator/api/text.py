"""Foreign words made fit for a status: secrets removed, white space folded, length bounded."""

from __future__ import annotations

import re

from serval_operator.constants import MAX_MESSAGE

HIDDEN = "***"

_USERINFO = re.compile(r"(?<=://)[^\s/@]+(?=@)")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,}")
_ASSIGNED = re.compile(
    r"(?i)\b((?:[a-z0-9]+[_-])*(?:sig|token|secret|password|passwd|accountkey|api[_-]?key))(\s*[=:]\s*)[^\s&;,\"']+"
)


def scrub(text: str, limit: int = MAX_MESSAGE) -> str:
    """Foreign text on one line, without what looks like a secret, at most ``limit`` characters.

    Removed are user information in addresses, bearer and basic credentials, and the values of parameters
    named like secrets (a shared access signature's ``sig=``, ``token=``, ``password:`` and so on).
    """
    line = " ".join(text.split())
    line = _USERINFO.sub(HIDDEN, line)
    line = _BEARER.sub(rf"\1 {HIDDEN}", line)
    line = _ASSIGNED.sub(rf"\1\2{HIDDEN}", line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def last_line(text: str, limit: int = MAX_MESSAGE) -> str:
    """The last line of a log that says something, scrubbed: what a container said before it ended."""
    lines = [line for line in text.splitlines() if line.strip()]
    return scrub(lines[-1], limit) if lines else ""
