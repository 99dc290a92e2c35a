"""What became of the Jobs of a custom resource: `status.jobs`, for every kind that has Jobs.

`serval_operator.jobs.record` reads and writes it. The bounds hold what a stage can report in 4000 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

from serval_contract.stage_report import MAX_FILE_NAME, MAX_FILES
from serval_operator.api.schema import MAX_EXACT, AnyObject, Block, Items, Nested, Text, Whole, Words
from serval_operator.constants import MAX_MESSAGE

JobPhase = Literal["Pending", "Running", "Suspended", "Succeeded", "Failed"]
JOB_PHASES: Final[tuple[JobPhase, ...]] = get_args(JobPhase)

MAX_JOBS: Final = 16
"""Jobs of one custom resource."""
MAX_JOB_NAME: Final = 20
"""Name of a plan: its Jobs are named after the owner, the plan, the inputs and the attempt."""
MAX_ATTEMPTS: Final = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile(Block):
    """A file that a Job stored."""

    name: Annotated[str, Text("Name or relative path of the file.", max_length=MAX_FILE_NAME, min_length=1)]
    digest: Annotated[
        str, Text("SHA-256 of its content.", max_length=71, pattern="^sha256:[a-f0-9]{64}$")
    ] = ""
    bytes: Annotated[int | None, Whole("Its size in bytes.", 0, MAX_EXACT)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus(Block):
    """The newest Job of one name."""

    name: Annotated[
        str, Text("What the Job does, unique in this list.", max_length=MAX_JOB_NAME, min_length=1)
    ]
    inputs: Annotated[
        str, Text("Digest of the inputs. Other inputs start another Job.", max_length=10, min_length=1)
    ]
    attempt: Annotated[
        int | None, Whole("How often these inputs were tried, the current try included.", 1, MAX_ATTEMPTS)
    ] = None
    phase: Annotated[
        str,
        Words(
            "What the Job does. Succeeded and Failed are final: the same inputs never run again. Pending "
            "with a completionTime waits for the next attempt.",
            JOB_PHASES,
        ),
    ]
    start_time: Annotated[str, Text("When the Job started.", max_length=64, format="date-time")] = ""
    completion_time: Annotated[
        str, Text("When it succeeded or last failed.", max_length=64, format="date-time")
    ] = ""
    reason: Annotated[str, Text("Why, in one word for programs.", max_length=63)] = ""
    message: Annotated[str, Text("Why, for people.", max_length=MAX_MESSAGE)] = ""
    result: Annotated[
        dict[str, object] | None, AnyObject("What the Job found, as its stages reported it.")
    ] = None
    files: Annotated[
        tuple[JobFile, ...],
        Items("Files that the Job stored.", Nested("One file.", JobFile), max_items=MAX_FILES),
    ] = ()


STATUS_JOBS: Final = Items(
    "Jobs that must succeed first, each with its newest attempt.",
    Nested("One Job.", JobStatus),
    max_items=MAX_JOBS,
    key="name",
)
"""Description of the field `jobs` of a status, a tuple of `JobStatus`."""
