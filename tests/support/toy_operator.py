"""The operator with two kinds of tests beside its own: ``python -m support.toy_operator``."""

from __future__ import annotations

import sys

from serval_operator import registry
from support.note import NOTE_KIND
from support.toy import TOY_KIND

# The one line that a kind costs outside of its folder.
registry.KINDS = (*registry.KINDS, TOY_KIND, NOTE_KIND)  # type: ignore[misc]

if __name__ == "__main__":
    from serval_operator.__main__ import main

    sys.exit(main())
