"""Graph runs killed at random moments: ``python -m tests.experiments_killed --runs 100``; the service, too.

Graphs (a chain, branches, nodes that take seconds) run on a service of their own. At moments that a seed chooses, the
service, a run's keeper, its engine or the process of a node is killed (``kill -9``), and the service is started again.

What is held, all the time and when a run has ended:

- A status is true. SUCCEEDED: every node's outputs are whole and what an undisturbed run of the same graph comes to.
  FAILED: with a reason, and only when a process of the run was killed. RUNNING: there is a process, or was a moment
  ago. Nothing of a run that has ended goes on.
- No run has two engines, no job two, and no node begins twice in a run.
- No process is left.
- Each can be run to its end afterwards: what nodes had done is not done again, and all comes to the same figures.

Each kill is a line. The last line is JSON: ``runs``, ``kills``, ``untruthful``, ``doubled``, ``left_processes``,
``not_rerun``, ``seed``, ``seconds``. Exit status: 0 only if the four in the middle are 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from app.supervisor.runners import keeper
from app.visual.choices import Status
from app.visual.engine import run as engine
from app.visual.engine.plan import PLAN, NodeState, Plan, Progress
from app.visual.jobs.folders import OUTPUTS, RUNS
from tests.databases import postgres_schema
from tests.graphs import Experiments, Json, node
from tests.run_processes import Part, RunProcess, of_runs
from tests.services import ServiceProcess
from tests.stack import shared_stack

ENDED = (Status.STOPPED, Status.SUCCEEDED, Status.FAILED)

_SERVICE = {
    "HLINK_TICK_S": "0.3",
    "HLINK_LEASE_S": "2",
    "HLINK_PLANNER_TIMEOUT_S": "5",
    "HLINK_VISUAL_AT_ONCE": "3",
}
"""A run of a service that was killed is looked after again within lease and tick, before its status may be called
untrue; a start that was cut off is tried again after the time of the planner."""
_EMPTY_S = 6.0
"""How long a run may be called running without a process."""
_LIVING_S = 3.0
"""How long a process may live on of a run that is said to have ended."""
_ENDS_WITHIN_S = 180.0
_LOOK_S = 0.4
_AT_ONCE = 4
"""Jobs that are run together: one more than run at a time."""
_LIVES = 2
"""How often a job is killed before it is run to its end."""
_VICTIMS: Mapping[str, int] = {"service": 1, Part.KEEPER: 2, Part.ENGINE: 2, Part.NODE: 3}
"""What is killed, and how often in proportion."""


def _learnt() -> list[Json]:
    return [
        node("read", "sklearn.dataset", {"dataset": 3, "target": "target"}),
        node("split", "sklearn.train_test_split", {"test_size": 0.3}, data="read.data"),
        node("scale", "sklearn.standard_scaler", data="split.train", test="split.test"),
        node("learn", "sklearn.logistic_regression", data="scale.data"),
        node("judge", "sklearn.evaluate_classification", model="learn.model", data="scale.test"),
    ]


def _importance(name: str, repeats: int, **inputs: str) -> Json:
    return node(name, "sklearn.permutation_importance", {"n_repeats": repeats}, **inputs)


GRAPHS: Mapping[str, Sequence[Json]] = {
    "a chain": _learnt(),
    "branches": [
        *_learnt(),
        node("trees", "sklearn.random_forest_classifier", {"n_estimators": 20}, data="scale.data"),
        node("judge trees", "sklearn.evaluate_classification", model="trees.model", data="scale.test"),
        _importance("weigh trees", 5, model="trees.model", data="scale.test"),
        node("groups", "sklearn.k_means", {"n_clusters": 2}, data="scale.data"),
        node("judge groups", "sklearn.evaluate_clustering", model="groups.model", data="scale.test"),
    ],
    "long nodes": [
        *_learnt(),
        _importance("weigh", 25, model="learn.model", data="scale.test"),
        node("neighbours", "sklearn.k_neighbors_classifier", data="scale.data"),
        _importance("weigh neighbours", 8, model="neighbours.model", data="scale.test"),
    ],
}


class VisualService(ServiceProcess):
    """Only what is to be killed here."""

    program = ("-m", "tests.visual_service")


@dataclass
class Findings:
    """What should not have been, for a person to read."""

    untruthful: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    left_processes: list[str] = field(default_factory=list)
    not_rerun: list[str] = field(default_factory=list)
    runs: int = 0
    """Runs in the middle of which something was killed."""
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def all(self) -> list[str]:
        return [*self.untruthful, *self.doubled, *self.left_processes, *self.not_rerun]

    def add(self, other: Findings) -> None:
        """Count another's as well."""
        for name in ("untruthful", "doubled", "left_processes", "not_rerun"):
            getattr(self, name).extend(getattr(other, name))
        self.runs += other.runs
        self.kills += other.kills

    def summary(self) -> dict[str, int]:
        return {
            "runs": self.runs,
            "kills": self.kills.total(),
            "untruthful": len(self.untruthful),
            "doubled": len(self.doubled),
            "left_processes": len(self.left_processes),
            "not_rerun": len(self.not_rerun),
        }


@dataclass(eq=False)
class Job:
    """A graph with a seed of its own, so that no other job's outputs are used in place of its own."""

    id: int
    graph: str
    seed: int
    nodes: frozenset[int]
    hit: bool = False
    """Whether something was killed while it ran."""
    own: bool = False
    """Whether that was a process of its own."""
    told: Json = field(default_factory=dict)
    """What the service said of it when its last run had ended."""
    ended: list[Path] = field(default_factory=list)
    """The folders of its runs."""

    @property
    def name(self) -> str:
        return f"{self.graph}, seed {self.seed}"


class Reference:
    """What undisturbed runs come to: the same plans, carried out by the engine beside the service."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _silent, (str(home),))

    async def outputs(self, folder: Path) -> Path:
        """The folder of outputs of an undisturbed run with the plan in ``folder``, whose keys are the same."""
        own = self._home / folder.name
        own.mkdir(parents=True)
        plan = replace(Plan.read(folder), outputs=str(self._home / "outputs"), anew=[])
        plan.write(own)
        code = await asyncio.get_running_loop().run_in_executor(self._pool, engine.run, own)
        assert code == 0, f"an undisturbed run fails: {own}"
        return Path(plan.outputs)

    def close(self) -> None:
        self._pool.shutdown()


def _silent(home: str) -> None:
    """The engine speaks on standard output, which is somebody else's here."""
    log = os.open(f"{home}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)


class Lab:
    """A service, the jobs that are run on it, and what is found."""

    def __init__(self, service: ServiceProcess, seed: int, say: Callable[[str], None]) -> None:
        self.service = service
        self.runs = service.home.resolve() / RUNS
        self.outputs = service.home.resolve() / OUTPUTS
        self.chance = random.Random(seed)
        self.say = say
        self.findings = Findings()
        self.watched: list[Job] = []
        self._http = httpx.AsyncClient(base_url=service.url, timeout=30, trust_env=False)
        self._api = Experiments(self._http)
        self._reference = Reference(service.home / "reference")
        self._experiment = 0
        self._made = 0
        self._known: dict[str, int] = {}
        self._since: dict[tuple[int, float], float] = {}
        """Job and patience -> since when what it says is not what there is."""
        self._lasts = 3.0
        """Seconds that a run took lately: within them something is killed."""

    # The whole

    async def prove(self, runs: int) -> None:
        """Kill something in the middle of that many runs."""
        await asyncio.to_thread(self.service.start)
        self._experiment = await self._api.experiment("killed")
        watching = asyncio.create_task(self._watch())
        try:
            while self.findings.runs < runs:
                await self._round(min(_AT_ONCE, -(-(runs - self.findings.runs) // _LIVES)))
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await self._http.aclose()
            await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self.service.stop()
        self._reference.close()
        deadline = time.monotonic() + _LIVING_S
        while (left := of_runs(self.runs)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for one in left:
            self._find(self.findings.left_processes, f"{one.part} {one.process.pid} of run {one.run}")
            one.kill()

    async def _round(self, count: int) -> None:
        """Run some jobs, kill in the middle of each as often as it is to be, and run them to their end."""
        jobs = [await self._job() for _ in range(count)]
        self.watched = jobs
        for _ in range(_LIVES):
            await self._kill_in_the_middle(jobs)
        # Those of the first runs, as all of a job have the same plan.
        expected = {job: asyncio.create_task(self._reference.outputs(job.ended[0])) for job in jobs}
        began = time.monotonic()
        await self._until_all_ended(jobs, asyncio.gather(*(self._begin(job) for job in jobs)))
        self._lasts = min(8.0, max(1.0, time.monotonic() - began))
        for job in jobs:
            if job.told["jobStatus"] != Status.SUCCEEDED:
                ended = f"{Status(job.told['jobStatus']).name}: {job.told['reason']}"
                self._find(self.findings.not_rerun, f"{job.name} ends as {ended}")
            self._judge_outputs(job, await expected[job])
        self.watched = []

    async def _kill_in_the_middle(self, jobs: Sequence[Job]) -> None:
        """Begin a run of each, kill until each has been hit or has ended, and see what becomes of them."""
        for job in jobs:
            job.hit = job.own = False
        asking = asyncio.gather(*(self._begin(job) for job in jobs))
        if self.chance.random() < 0.3:
            await asyncio.sleep(self.chance.uniform(0, 0.3))
            await self._kill_service([])
        await asking
        while left := [job for job in jobs if not job.hit and await self._status(job) not in ENDED]:
            await asyncio.sleep(self.chance.uniform(0, self._lasts / len(left)))
            await self._kill_something(left)
        await self._until_all_ended(jobs, asking)
        for job in jobs:
            self.findings.runs += job.hit
            self._judge(job)

    async def _until_all_ended(self, jobs: Sequence[Job], asking: asyncio.Future[Any]) -> None:
        """Wait for the end of runs that are asked for, and see whether they went on from those before."""
        await asking
        await asyncio.gather(*(self._until_ended(job) for job in jobs))
        for job in jobs:
            done = _nodes(job.told, "nodeStatus", Status.SUCCEEDED)
            job.told = await self._view(job)
            job.ended.append(self._newest(job))
            again = done & _nodes(job.told, "nodeStatus", Status.SUCCEEDED) - _nodes(job.told, "reused", True)
            if again:
                self._find(self.findings.not_rerun, f"{job.name}: nodes {again} were done, and were run again")

    # Jobs

    async def _job(self) -> Job:
        self._made += 1
        graph = self.chance.choice(list(GRAPHS))
        made, names = await self._api.job(self._experiment, GRAPHS[graph])
        return Job(made, graph, self._made, frozenset(map(int, names.values())))

    async def _begin(self, job: Job) -> None:
        """Ask for a run until it is written down, whoever dies meanwhile."""
        before = Status(job.told.get("jobStatus", Status.PREPARING))
        while True:
            with suppress(httpx.TransportError):
                answer = await self._http.post(
                    "/visualmodule/job/run", json={"jobId": str(job.id), "seed": job.seed}, timeout=30
                )
                if answer.status_code in (200, 409):
                    return
                assert answer.status_code == 503, f"{job.name} is not run: {answer.text}"
            # It broke off: the run may have been written down. One that was, and has ended alike, is run once more.
            if await self._status(job) is not before:
                return

    async def _status(self, job: Job) -> Status:
        return Status((await self._asked(f"/job/status/{job.id}"))["jobStatus"])

    async def _view(self, job: Job) -> Json:
        view: Json = await self._asked(f"/job/{job.id}")
        return view

    async def _asked(self, path: str) -> Any:
        """What the service answers, as soon as there is one."""
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while True:
            with suppress(httpx.TransportError):
                answer = await self._http.get(f"/visualmodule{path}")
                if answer.status_code != 503:
                    assert answer.status_code == 200, answer.text
                    return answer.json()["obj"]
            assert time.monotonic() < deadline, "the service does not answer"
            await asyncio.sleep(0.1)

    async def _until_ended(self, job: Job) -> None:
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while (status := await self._status(job)) not in ENDED:
            assert time.monotonic() < deadline, f"{job.name} is still {status.name}: {of_runs(self.runs)}"
            await asyncio.sleep(0.1)

    # Kills

    async def _kill_something(self, jobs: Sequence[Job]) -> None:
        there = await asyncio.to_thread(self._processes, jobs)
        kinds = [kind for kind in _VICTIMS if kind == "service" or any(one.part == kind for one, _ in there)]
        (kind,) = self.chance.choices(kinds, [_VICTIMS[one] for one in kinds])
        if kind == "service":
            await self._kill_service(jobs)
        else:
            self._kill_one_of([(one, job) for one, job in there if one.part == kind])

    def _kill_one_of(self, victims: Sequence[tuple[RunProcess, Job]]) -> None:
        victim, job = self.chance.choice(victims)
        if victim.kill():
            job.hit = job.own = True
            self._note(victim.part, f"of {job.name}")

    async def _kill_service(self, jobs: Sequence[Job]) -> None:
        """Kill it, perhaps a process of one of the runs that are under way while it is away, and start it again."""
        self.service.kill()
        for job in jobs:
            job.hit = True
        self._note("service")
        await asyncio.sleep(self.chance.uniform(0, 1.5))
        victims = await asyncio.to_thread(self._processes, jobs)
        if victims and self.chance.random() < 0.4:
            self._kill_one_of(victims)
        await asyncio.to_thread(self.service.start)

    def _note(self, kind: str, what: str = "") -> None:
        self.findings.kills[str(kind)] += 1
        self.say(f"{self.findings.kills.total():4}  {kind} {what}")

    # Looking

    def _processes(self, jobs: Iterable[Job]) -> list[tuple[RunProcess, Job]]:
        by_id = {job.id: job for job in jobs}
        return [(one, by_id[job]) for one in of_runs(self.runs) if (job := self._job_of(one.run)) in by_id]

    def _job_of(self, run: str) -> int | None:
        """The job that a run is of, by the nodes in its plan."""
        if run not in self._known:
            with suppress(OSError):
                nodes = {step.id for step in Plan.read(self.runs / run).steps}
                for job in self.watched:
                    if nodes <= job.nodes:
                        self._known[run] = job.id
        return self._known.get(run)

    def _runs_of(self, job: Job) -> list[Path]:
        """The job's runs, oldest first."""
        found = [folder for folder in self.runs.glob(f"*/{PLAN}") if self._job_of(folder.parent.name) == job.id]
        return [plan.parent for plan in sorted(found, key=lambda plan: plan.stat().st_mtime_ns)]

    def _newest(self, job: Job) -> Path:
        return self._runs_of(job)[-1]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._look(list(self.watched))

    async def _look(self, jobs: Sequence[Job]) -> None:
        """Hold what the service says against what there is, before and after it says so."""
        before = await asyncio.to_thread(self._processes, jobs)
        told: dict[Job, Json] = {}
        for job in jobs:
            with suppress(httpx.TransportError):
                answer = await self._http.get(f"/visualmodule/job/status/{job.id}", timeout=3)
                told[job] = answer.json()["obj"]
        after = await asyncio.to_thread(self._processes, jobs)
        for job in jobs:
            engines = {one for one, of in after if of is job and one.part is Part.ENGINE}
            if len(engines) > 1:
                self._find(self.findings.doubled, f"{job.name} has the engines {engines}")
            status = Status(told[job]["jobStatus"]) if told.get(job) else None
            seen = [{one for one, of in some if of is job} for some in (before, after)]
            self._compare(job, status is Status.RUNNING and not any(seen), "RUNNING, without a process", _EMPTY_S)
            living = status in ENDED and set.intersection(*seen)
            self._compare(job, bool(living), f"has ended by its status, and lives: {living}", _LIVING_S)

    def _compare(self, job: Job, wrong: bool, words: str, patience_s: float) -> None:
        """Note what has been wrong for too long."""
        now, kind = time.monotonic(), (job.id, patience_s)
        if not wrong:
            self._since.pop(kind, None)
        elif now - self._since.setdefault(kind, now) > patience_s:
            self._find(self.findings.untruthful, f"{job.name}: {words}")

    # Judging

    def _judge(self, job: Job) -> None:
        """Hold the end of a run, as the service tells it, against what was done to it."""
        view = job.told
        status = Status(view["jobStatus"])
        nodes = {one["nodeId"]: Status(one["nodeStatus"]) for one in view["graph"]}
        wrong = [f"node {one} is {state.name}" for one, state in nodes.items() if state not in ENDED]
        match status:
            case Status.SUCCEEDED:
                wrong += [f"node {one} is {is_.name}" for one, is_ in nodes.items() if is_ is not Status.SUCCEEDED]
            case Status.FAILED:
                if not (view["reason"] or "").strip():
                    wrong.append("without a reason")
                if not job.own:
                    wrong.append(f"and no process of its own was killed: {view['reason']}")
            case _:
                wrong.append("nobody has stopped it")
        for one in wrong:
            self._find(self.findings.untruthful, f"{job.name} is {status.name}: {one}")

    def _judge_outputs(self, job: Job, expected: Path) -> None:
        """Hold what its runs have as brought out against ``expected``, where that has the same names."""
        for folder in job.ended:
            for step in Plan.read(folder).steps:
                progress = Progress.read(folder, step.id)
                if progress.state is not NodeState.SUCCEEDED:
                    continue
                made, right = self.outputs / str(progress.key), expected / str(progress.key)
                what = f"{job.name}, run {folder.name}: the outputs of {step.name} are not"
                if not (made / engine.DONE).exists():
                    self._find(self.findings.untruthful, f"{what} whole")
                elif _files(made) != _files(right):
                    self._find(self.findings.untruthful, f"{what} those of an undisturbed run")
            for twice in _begun_twice(folder):
                self._find(self.findings.doubled, f"{job.name}, run {folder.name}: {twice}")

    def _find(self, sort: list[str], what: str) -> None:
        if what not in sort:
            sort.append(what)
            self.say(f"!! {what}")


def _nodes(told: Json, what: str, is_: Any) -> set[Any]:
    return {one["nodeId"] for one in told.get("graph", ()) if one[what] == is_}


def _files(outputs: Path) -> dict[str, bytes]:
    """Tables, statistics and figures, byte by byte; a model's file has the time in it, and speaks by its figures."""
    kept = (file for file in outputs.glob("*/*") if file.suffix in (".json", ".arrow"))
    return {str(file.relative_to(outputs)): file.read_bytes() for file in kept}


_BEGINS = re.compile(r"INFO (?:(?P<node>.+): begins|Nodes: \d+, at a time: \d+), in process \d+$", re.MULTILINE)


def _begun_twice(folder: Path) -> list[str]:
    """Who has said more than once, in one run, that it begins."""
    log = folder / keeper.LOG
    said = Counter(one["node"] or "the engine" for one in _BEGINS.finditer(log.read_text() if log.exists() else ""))
    return [f"{who} begins {times} times" for who, times in said.items() if times > 1]


async def prove(home: Path, database_url: str, runs: int, seed: int, say: Callable[[str], None]) -> Findings:
    """Kill in the middle of that many runs, on a service in ``home``; without ``database_url`` on SQLite."""
    lab = Lab(VisualService(home, _SERVICE | {"HLINK_DATABASE_URL": database_url}), seed, say)
    await lab.prove(runs)
    return lab.findings


def main() -> int:
    reader = argparse.ArgumentParser(prog="python -m tests.experiments_killed", description="Kill graph runs.")
    reader.add_argument("--runs", type=int, default=100, help="how many (default 100), half of them on each database")
    reader.add_argument("--seed", type=int, default=0, help="what is killed, and when; by default one of the clock")
    reader.add_argument("--sqlite", action="store_true", help="all of them on SQLite")
    given = reader.parse_args()
    seed, began, failed = given.seed or int(time.time()), time.monotonic(), False
    findings = Findings()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f}  {line}", flush=True)

    say(f"seed {seed}")
    with TemporaryDirectory(prefix="hlink-killed-") as folder:
        try:
            first = given.runs if given.sqlite else (given.runs + 1) // 2
            findings.add(asyncio.run(prove(Path(folder) / "sqlite", "", first, seed, say)))
            if first < given.runs:
                with shared_stack() as endpoints, postgres_schema(endpoints.postgres) as url:
                    home = Path(folder) / "postgresql"
                    findings.add(asyncio.run(prove(home, url, given.runs - first, seed + 1, say)))
        except Exception:  # noqa: BLE001 - it is told, and counts
            traceback.print_exc()
            failed = True
    print(json.dumps({**findings.summary(), "seed": seed, "seconds": round(time.monotonic() - began)}))
    return 1 if failed or findings.all else 0


if __name__ == "__main__":
    sys.exit(main())
