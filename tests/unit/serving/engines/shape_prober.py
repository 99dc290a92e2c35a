"""Sends tensors of odd shapes to every signature of a SavedModel. Run as a program, in a process of its own.

Each line on standard output is a case before it runs, or what came of it. So the last line names the case
that ended the process.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from serval_serving.engines.shape_verdicts import InferenceBudget
from serval_serving.engines.tensorflow import SessionOptions, TensorFlowEngine
from serval_serving.wire.dtypes import DataType, numpy_dtype
from serval_serving.wire.status import StatusError

MOST_ELEMENTS = 20_000
SIZES = (0, 1, 2, 3, 4, 5, 6, 8, 9)
SECONDS = 20.0


def shapes(declared: Any, number: int, chance: random.Random) -> Iterator[tuple[int, ...]]:
    """Yield shapes: some one step away from the declared one, the others of any rank and size."""
    near = [3 if size is None else size for size in declared or ()]
    yield tuple(near)
    yield from (tuple(near[1:]), (*near, 1), (1, *near), tuple(near[:1]), ())
    for _ in range(number):
        if chance.random() < 0.5 and near:
            changed = list(near)
            changed[chance.randrange(len(near))] = chance.choice(SIZES)
            yield tuple(changed)
        else:
            yield tuple(chance.choice(SIZES) for _ in range(chance.randrange(7)))


def tensor(dtype: int, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of small values."""
    if dtype == DataType.DT_STRING:
        return np.full(shape, b"12345678" * 24, dtype=object)
    return np.ones(shape, numpy_dtype(dtype))


def say(**words: Any) -> None:
    """Write a line that is out before anything else happens."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def cases(
    model: Any, number: int, chance: random.Random
) -> Iterator[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Yield signatures and a shape for each input; large tensors are left out."""
    for name in sorted(model.signatures):
        declared = [spec.shape for spec in model.signatures[name].inputs.values()]
        for combination in zip(*(list(shapes(shape, number, chance)) for shape in declared), strict=False):
            if all(math.prod(shape) <= MOST_ELEMENTS for shape in combination):
                yield name, combination


def run(model: Any, name: str, combination: tuple[tuple[int, ...], ...]) -> None:
    """Run a case and say what came of it."""
    signature = model.signatures[name]
    inputs = {
        alias: tensor(spec.dtype, shape)
        for (alias, spec), shape in zip(signature.inputs.items(), combination, strict=True)
    }
    try:
        model.run(name, inputs, list(signature.outputs), SECONDS)
    except StatusError as error:
        say(came=error.code.name, words=error.message[:200])
    else:
        say(came="OK")


def graph_bytes(model: Any) -> int:
    """Bytes of the graph that is kept for shape inference."""
    shapes = model._verdicts._infer.__self__
    functions = shapes._functions.values()
    return sum(kept.ByteSize() for kept in (*shapes._nodes.values(), *functions))


def main(number: int, seed: int, skipped: int, *folders: str) -> None:
    """Try the models in folders, without the first so many cases."""
    engine = TensorFlowEngine(SessionOptions(intra_op_threads=1, inter_op_threads=1))
    engine._budget = InferenceBudget(burst_seconds=math.inf)
    chance = random.Random(seed)
    count = 0
    sizes: dict[str, int] = {}
    for folder in folders:
        model = engine.load(Path(folder))
        for name, combination in cases(model, number, chance):
            count += 1
            if count > skipped:
                say(case=count, model=folder, signature=name, shapes=combination)
                run(model, name, combination)
        sizes[folder] = graph_bytes(model)
    say(cases=count, sizes=sizes)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), *sys.argv[4:])
