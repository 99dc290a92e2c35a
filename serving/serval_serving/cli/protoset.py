"""``serval protoset``: the predict API's descriptors in a file, for tools such as grpcurl.

Model servers offer no reflection, or only where told to, so such tools must be told the API.
"""

from __future__ import annotations

import argparse

from serval_serving.cli.errors import NOT_FOUND, OK, CliError
from serval_serving.wire.descriptors import descriptor_set


def run(options: argparse.Namespace) -> int:
    """Write the file.

    Raises
    ------
    CliError
        If it cannot be written.
    """
    try:
        options.file.write_bytes(descriptor_set().SerializeToString())
    except OSError as error:
        raise CliError(f"{options.file} cannot be written: {error.strerror}", NOT_FOUND) from error
    print(f"wrote {options.file}")
    return OK
