"""The table: what was measured, beside what KServe's controller reached and what was aimed at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.operator.figures import Burst, Latency, Results

KSERVE_COUNTS = (300, 1000)
NOTE = """\
KServe's figures: its controller as of August 2026 (after v0.20.0, Go), standard Deployment mode, no ingress,
webhooks on, client rate limit off, InferenceServices of one replica created at 150 to 180 a second. We took
them on the same kind of machine and plane: kube-apiserver 1.36.3, etcd without fsync, kube-controller-manager
and scheduler at 1,000 requests a second, 20 kwok nodes whose pods become Ready at once, two cores shared by
everything. Ours: the same, ModelDeployments of one replica, the permissions of the chart. Latencies are
between two events as a watching client sees them; CPU is the kernel's count of the process; requests are
counted in the audit log, persisted writes by the versions of the objects in etcd. All Ready counts from the
first creation."""


@dataclass(frozen=True)
class Row:
    """A line of the table: what KServe reached, what was aimed at, and how ours is shown."""

    name: str
    kserve: Mapping[int, str]
    goal: str
    ours: Callable[[Burst], str]


def seconds(value: float) -> str:
    """A time for people: milliseconds below one second."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def both(latency: Latency) -> str:
    """Both percentiles."""
    return f"{seconds(latency.p50)} / {seconds(latency.p99)}"


def megabytes(*values: float) -> str:
    """Sizes for people."""
    return " / ".join(f"{value:.0f}" for value in values) + " MB"


def cores(number: float | None) -> str:
    """A number of cores for people."""
    return "not known" if number is None else f"{number:.1f}"


def cpu_of(process: str) -> Callable[[Burst], str]:
    """A function that shows the CPU of a process."""
    return lambda burst: f"{burst.cpu_ms.get(process, 0.0):.1f} ms"


ROWS = (
    Row(
        "operator's CPU per CR",
        {300: "30 ms", 1000: "38 ms"},
        "10 ms",
        lambda b: f"{b.cpu_ms['operator']:.1f} ms",
    ),
    Row("requests per CR", {300: "28", 1000: "28"}, "12", lambda b: f"{sum(b.requests.values()):.1f}"),
    Row("of these persisted writes", {300: "9.0", 1000: "9.0"}, "8", lambda b: f"{b.kept:.1f}"),
    Row(
        "CR created to Deployment created, p50 / p99",
        {300: "11 / 22 s", 1000: "45 / 95 s"},
        "",
        lambda b: both(b.deployment),
    ),
    Row(
        "Deployment Available to CR Ready, p50 / p99",
        {300: "15 / 22 s", 1000: "73 / 96 s"},
        "",
        lambda b: both(b.available_ready),
    ),
    Row("pod Ready to CR Ready, p50 / p99", {}, "p99 2 s", lambda b: both(b.pod_ready)),
    Row("all created", {}, "", lambda b: seconds(b.created_seconds)),
    Row("all Ready", {300: "31 s", 1000: "142 s"}, "60 s for 1,000", lambda b: seconds(b.ready_seconds)),
    Row(
        "resident memory: idle / at the end / peak",
        {300: "63 / 104 MB", 1000: "62 / 166 MB"},
        "",
        lambda b: megabytes(*b.memory_mb),
    ),
    Row(
        "restart: CPU",
        {300: "1.65 s", 1000: "6.9 s"},
        "",
        lambda b: seconds(b.restart.cpu_seconds),
    ),
    Row(
        "restart: quiet after",
        {300: "5.7 s", 1000: "24 s"},
        "5 s for 1,000",
        lambda b: seconds(b.restart.quiet_seconds),
    ),
    Row("restart: writes", {300: "301", 1000: "1,000"}, "0", lambda b: str(b.restart.writes)),
    Row("restart: pods replaced", {300: "0", 1000: "0"}, "0", lambda b: str(b.restart.pods_replaced)),
    Row(
        "restart: resident memory, at the end / peak",
        {},
        "",
        lambda b: megabytes(*b.restart.memory_mb),
    ),
    Row(
        "requests a minute when nothing happens",
        {300: "0", 1000: "0"},
        "0",
        lambda b: str(sum(b.idle_requests.values())),
    ),
    *(
        Row(f"{name}'s CPU per CR", dict.fromkeys(KSERVE_COUNTS, kserve), "", cpu_of(name))
        for name, kserve in {
            "kube-apiserver": "122 to 182 ms",
            "kube-controller-manager": "26 to 51 ms",
            "etcd": "28 to 41 ms",
            "kube-scheduler": "4 to 6 ms",
        }.items()
    ),
    Row("cores that other work took meanwhile, of two", {}, "", lambda b: cores(b.others_cores)),
)


def markdown(results: Results) -> str:
    """All tables, as they stand in the docs."""
    bursts = sorted(results.bursts.values(), key=lambda one: one.count)
    parts = [_calm(results), _bursts(bursts), _crowds(results), _requests(bursts), NOTE]
    return "\n\n".join(part for part in parts if part)


def _calm(results: Results) -> str:
    calm = results.calm
    if calm is None:
        return ""
    return _table(
        ["one CR a second, p50 / p99", "KServe", "goal", "Serval"],
        [
            ["CR created to Deployment created", "30 / 42 ms", "50 ms / 500 ms", both(calm.deployment)],
            ["pod Ready to CR Ready", "46 / 93 ms", "100 ms / 500 ms", both(calm.ready)],
            ["CR created to CR Ready", "130 / 201 ms", "", both(calm.whole)],
        ],
    )


def _bursts(bursts: list[Burst]) -> str:
    if not bursts:
        return ""
    counts = [burst.count for burst in bursts]
    head = ["CRs created at full speed", "goal"]
    for count in counts:
        head += [f"KServe, {count:,}"] * (count in KSERVE_COUNTS) + [f"Serval, {count:,}"]
    rows = []
    for row in ROWS:
        cells = [row.name, row.goal]
        for burst in bursts:
            kserve = [row.kserve.get(burst.count, "")] if burst.count in KSERVE_COUNTS else []
            cells += [*kserve, row.ours(burst)]
        rows.append(cells)
    return _table(head, rows)


def _crowds(results: Results) -> str:
    """What a new operator does that finds many."""
    found = [one for _, one in sorted(results.crowds.items(), key=lambda item: int(item[0]))]
    if not found:
        return ""
    head = [
        "a new operator finds",
        "goal for 10,000",
        *(f"{int(count):,}" for count in sorted(results.crowds, key=int)),
    ]
    rows = [
        ["CPU", "", *(seconds(one.cpu_seconds) for one in found)],
        ["quiet after", "60 s", *(seconds(one.quiet_seconds) for one in found)],
        ["writes", "0", *(str(one.writes) for one in found)],
        ["pods replaced", "0", *(str(one.pods_replaced) for one in found)],
        ["resident memory, at the end / peak", "400 MB", *(megabytes(*one.memory_mb) for one in found)],
    ]
    return _table(head, rows)


def _requests(bursts: list[Burst]) -> str:
    """What the operator asks for one ModelDeployment."""
    if not bursts:
        return ""
    names = list(dict.fromkeys(name for burst in bursts for name in burst.requests))
    head = ["requests of the operator per CR", *(f"{burst.count:,}" for burst in bursts)]
    rows = [
        [name, *(f"{burst.requests.get(name, 0):.2f}" for burst in bursts)]
        for name in names
        if max(burst.requests.get(name, 0) for burst in bursts) >= 0.005
    ]
    return _table(head, rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
