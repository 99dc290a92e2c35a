"""Tables of the model server's flags, for docs/serving.md."""

from __future__ import annotations

from benchmarks.failures import table

from serval_serving.server.flags import IGNORED, REFUSED, spelled_default
from serval_serving.server.settings import FLAGS


def shared_flags() -> str:
    """Return the table of TensorFlow Serving's flags, and the lists of those without effect."""
    ignored = ", ".join(f"`{name}`" for name in sorted(IGNORED))
    refused = ", ".join(f"`{name}`" for name in sorted(REFUSED))
    return (
        f"{_table(tf_serving=True)}\n\n"
        f"These are accepted and have no effect; the log names them: {ignored}. With {refused} the server"
        " does not start, because ignoring it would serve a different model."
    )


def own_flags() -> str:
    """Return the table of the flags that only this server has."""
    return _table(tf_serving=False)


def _table(*, tf_serving: bool) -> str:
    rows = [
        [f"`--{name}`", spelled_default(name), f"{flag.help}{'' if flag.with_upstream else ' ¹'}"]
        for name, flag in FLAGS.items()
        if flag.tf_serving is tf_serving
    ]
    return table(["flag", "default", "meaning"], rows)
