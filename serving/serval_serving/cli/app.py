"""Arguments of ``serval``, and what its exit status says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from serval_serving.cli import inspect, predict, protoset, replay, status
from serval_serving.cli.accel import add_accel
from serval_serving.cli.errors import INTERRUPTED, NOT_FOUND, REFUSED, UNREACHABLE, CliError
from serval_serving.cli.images_options import add_images
from serval_serving.client.errors import (
    DeadlineExceededError,
    NotFoundError,
    ServingError,
    UnavailableError,
)
from serval_serving.models.savedmodel import DEFAULT_SIGNATURE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        result: int = options.run(options)
    except CliError as error:
        return _fail(str(error), error.status)
    except (UnavailableError, DeadlineExceededError) as error:
        return _fail(str(error), UNREACHABLE)
    except NotFoundError as error:
        return _fail(str(error), NOT_FOUND)
    except ServingError as error:
        return _fail(str(error), REFUSED)
    except KeyboardInterrupt:
        return INTERRUPTED
    return result


def _fail(message: str, status: int) -> int:
    print(f"serval: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serval", description="Use models that Serval serves.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    cluster = _cluster_options()
    _add_predict(commands.add_parser("predict", parents=[cluster], help="score files with a served model"))
    _add_status(commands.add_parser("status", parents=[cluster], help="say how a ModelDeployment is"))
    _add_replay(
        commands.add_parser("replay", parents=[cluster], help="compare two models on recorded requests")
    )
    _add_inspect(commands.add_parser("inspect", help="say what a model takes and gives"))
    add_images(commands.add_parser("images", help="look after images of converted models"), cluster)
    _add_protoset(commands.add_parser("protoset", help="write the API's descriptors, for grpcurl"))
    add_accel(commands.add_parser("accel", help="make models for devices"))
    return parser


def _cluster_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("cluster")
    group.add_argument("-n", "--namespace", help="namespace (default: the one of the kubeconfig's context)")
    group.add_argument("--kubeconfig", type=Path, help="kubeconfig (default: $KUBECONFIG, ~/.kube/config)")
    group.add_argument("--context", help="context of the kubeconfig")
    return options


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Send files to a model and print the classes with the highest scores. A model that takes strings"
        " gets each file's bytes, such as a JPEG; one that takes numbers gets the array in a .npy file."
    )
    parser.add_argument("target", help="name of a ModelDeployment, or host:port, or http://host:port")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="images or .npy files")
    protocol = parser.add_mutually_exclusive_group()
    protocol.add_argument("--grpc", action="store_true", help="use gRPC Predict (the default)")
    protocol.add_argument("--http", action="store_true", help="POST the bytes to /score")
    parser.add_argument("--model", default="", help="name of the model, where the server has several")
    parser.add_argument("--version", type=int, help="version of the model (default: the newest)")
    parser.add_argument("--signature", default="", help=f"signature (default: {DEFAULT_SIGNATURE})")
    parser.add_argument("--output", default="", help="output that holds the scores")
    parser.add_argument("--top", type=int, default=5, help="classes to print (default: %(default)s)")
    parser.add_argument("--labels", type=Path, help="file with the name of one class per line, from class 0")
    _add_timeout(parser)
    parser.add_argument(
        "--repeat", type=int, default=1, help="times to send each request, to see how long it takes"
    )
    parser.add_argument("--json", action="store_true", help="print JSON with all outputs and times")
    parser.set_defaults(run=predict.run)


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=float, default=10.0, help="seconds per request (default: %(default)g)"
    )


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Send recorded requests (PredictionLog records, as --sample_folder of the server writes them) to two"
        " models by gRPC, and compare outputs and latency. With one target, its outputs are compared with the"
        " recorded ones. The exit status is 5 if they differ."
    )
    parser.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        help="host:port[/model[/version]], or a ModelDeployment's name[/version]; one or two",
    )
    parser.add_argument(
        "--records", nargs="+", required=True, type=Path, metavar="PATH", help="files, or folders with files"
    )
    parser.add_argument(
        "--limit", type=int, default=1000, help="most requests to send to each (default: %(default)s)"
    )
    parser.add_argument(
        "--max-seconds", type=float, default=300.0, help="time after which no more are sent (default: 300)"
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.0, help="largest difference that counts as none (default: 0)"
    )
    _add_timeout(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=replay.run)


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="name of the ModelDeployment")
    parser.add_argument("--json", action="store_true", help="print the status as JSON")
    parser.set_defaults(run=status.run)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, help="a SavedModel, an ONNX file, or a base path with numbered versions"
    )
    parser.add_argument("--name", default="", help="model name in the examples (default: from the path)")
    parser.add_argument("--host", default="localhost", help="host in the examples (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=inspect.run)


def _add_protoset(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write the descriptors of the predict API: grpcurl -protoset FILE ..."
    parser.add_argument("file", type=Path, metavar="FILE", help="file to write")
    parser.set_defaults(run=protoset.run)
