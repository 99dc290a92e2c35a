"""Foreign words made fit for a status: secrets removed, white space folded, length bounded."""

from __future__ import annotations

import re

from serval_operator.constants import MAX_MESSAGE

HIDDEN = "***"

_USERINFO = re.compile(r"(?<=://)[^\s/]+(?=@)")
_CREDENTIALS = re.compile(
    r"\b((?i:bearer|basic))\s+(?=[\w.~+/-]*(?:\d|[a-z][A-Z])|[\w.~+/-]{20})[\w.~+/-]{6,}=*", re.ASCII
)
"""Behind the scheme a digit, a capital inside, or great length: "basic authentication" is no secret."""
_ASSIGNED = re.compile(
    r"(?i)((?<![a-z0-9])(?:sig|pwd)|signature|token|secret|password|passwd|credential"
    r"|(?:account|access|private|api|secret)[_-]?key)"
    r"(\\?[\"']?\s*[=:]\s*)"
    r"(\\?\"[^\"]*\"?|'[^']*'?|[^\s&;,\"']+)"
)
"""The end of a name, what assigns, and the value, quoted or not."""


def scrub(text: str, limit: int = MAX_MESSAGE) -> str:
    """Foreign text on one line, without what looks like a secret, at most ``limit`` characters.

    Removed are user information in addresses, bearer and basic credentials, and the values of parameters
    named like secrets (a shared access signature's ``sig=``, ``token=``, ``password:`` and so on), in URLs,
    in JSON and in plain words. Control characters become spaces, so that a terminal shows only text.
    """
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    line = _USERINFO.sub(HIDDEN, line)
    line = _CREDENTIALS.sub(rf"\1 {HIDDEN}", line)
    line = _ASSIGNED.sub(rf"\1\2{HIDDEN}", line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def last_line(text: str, limit: int = MAX_MESSAGE) -> str:
    """The last line of a log that says something, scrubbed: what a container said before it ended."""
    lines = [line for line in text.splitlines() if line.strip()]
    return scrub(lines[-1], limit) if lines else ""
