"""The supervisor as a state machine for hypothesis: everything that may happen to it, in any order.

The promises that are held against it stand in :mod:`tests.invariants`. The number of ``steps`` is counted over all
examples of a process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.engine import URL

from app.supervisor import State, StopMode
from app.supervisor.faults import POINTS
from tests.fake_flink import ADDRESS, SLOTS, FakeFlink, Fault, Job, SavepointFault, SubmissionFault
from tests.world import World

VARIABLE = "HLINK_STEPS"
"""How many steps the long form takes at least; without it the short form runs."""

_STEPS_OF_EXAMPLE = 40
_REST_EVERY = 12
"""Rest takes long, in simulated time too, and what is broken at rest is broken at the end of an example as well."""

steps = 0

_SUBJECTS = ("job:1", "job:2")

subjects = st.sampled_from(_SUBJECTS)
places = st.sampled_from((0, 1))
numbers = st.integers(0, 3)
policies = st.sampled_from(
    (
        {},
        {"recovery": {"of": [State.LOST]}},
        {"recovery": {"of": [State.LOST]}},
        {"recovery": {"of": [State.LOST, State.FAILED]}},
        {"recovery": {"of": [State.LOST], "without_state": True}},
    )
)
queues = st.sampled_from(
    ({}, *({"queue": {"place": ADDRESS, "slots": 1, "priority": priority, "wait_s": None}} for priority in (0, 1)))
)
specs = st.builds(lambda policy, queue: {**policy, **queue}, policies, queues)
"""What a job's run is to be told of its recovery and its place in the queue."""
pauses = st.sampled_from((0.0, 0.05, 0.3, 1.0, 1.0, 2.5, 6.0, 12.0))


class SupervisorMachine(RuleBasedStateMachine):
    """Two replicas at most, two subjects, one cluster."""

    new_database: Callable[[], URL]
    """Gives the address of a database without rows."""

    world: World

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(type(self).new_database(), seed)
        self.world.start(0)
        self.world.start(1)
        for subject in _SUBJECTS:
            self.world.create(subject)
        self.world.pause(4.0)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                if not self._has_failed:
                    self.world.come_to_rest()
            finally:
                self.world.close()

    _has_failed = False
    _since_rest = 0

    @invariant()
    def promises(self) -> None:
        global steps
        if not hasattr(self, "world"):
            return
        steps += 1
        self._since_rest += 1
        if steps % 1000 == 0:
            print(f"{steps} steps", flush=True)
        try:
            self.world.bury()
            self.world.check()
        except AssertionError:
            self._has_failed = True
            raise

    # What users do

    @rule(subject=subjects, told=st.sampled_from((True, True, True, False)), spec=specs, pause=pauses)
    def run(self, subject: str, told: bool, spec: dict[str, Any], pause: float) -> None:
        self.world.create(subject, told=told, **spec)
        self.world.pause(pause)

    @rule(subject=subjects, pause=pauses)
    def run_what_is_refused(self, subject: str, pause: float) -> None:
        self.world.create(subject, refuse="no such table: orders")
        self.world.pause(pause)

    @rule(subject=subjects, pause=pauses)
    def run_from_the_last_state(self, subject: str, pause: float) -> None:
        self.world.go_on(subject)
        self.world.pause(pause)

    @rule(subject=subjects, mode=st.sampled_from(StopMode), pause=pauses)
    def stop(self, subject: str, mode: StopMode, pause: float) -> None:
        self.world.request_stop(subject, mode)
        self.world.pause(pause)

    @rule(subject=subjects, spec=specs, pause=pauses)
    def restart(self, subject: str, spec: dict[str, Any], pause: float) -> None:
        self.world.request_restart(subject, **spec)
        self.world.pause(pause)

    @rule(subject=subjects, pause=pauses)
    def savepoint(self, subject: str, pause: float) -> None:
        self.world.request_savepoint(subject)
        self.world.pause(pause)

    @rule(seconds=st.sampled_from((0.2, 1.0, 5.0, 15.0, 40.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.pause(seconds)

    # What happens to the service

    @rule(place=places, pause=pauses)
    def kill(self, place: int, pause: float) -> None:
        self.world.kill(place)
        self.world.pause(pause)

    @rule(place=places, point=st.sampled_from(sorted(POINTS)), pause=pauses)
    def kill_at(self, place: int, point: str, pause: float) -> None:
        if replica := self.world.replicas.get(place):
            replica.dies_at = point
        self.world.pause(pause)

    @rule(place=places, pause=pauses)
    def end_in_order(self, place: int, pause: float) -> None:
        self.world.stop(place)
        self.world.pause(pause)

    @rule(place=places, pause=pauses)
    def start(self, place: int, pause: float) -> None:
        self.world.bury()
        self.world.start(place)
        self.world.pause(pause)

    # What happens to Flink, and between Flink and the service

    @rule(faults=st.lists(st.sampled_from(Fault), min_size=1, max_size=4), pause=pauses)
    def requests_go_wrong(self, faults: list[Fault], pause: float) -> None:
        self.world.flink.faults.extend(faults)
        self.world.pause(pause)

    @rule(fault=st.sampled_from(SubmissionFault), pause=pauses)
    def the_next_submission_goes_wrong(self, fault: SubmissionFault, pause: float) -> None:
        self.world.flink.submission_faults.append(fault)
        self.world.pause(pause)

    @rule(fault=st.sampled_from(SavepointFault), pause=pauses)
    def the_next_savepoint_goes_wrong(self, fault: SavepointFault, pause: float) -> None:
        self.world.flink.savepoint_faults.append(fault)
        self.world.pause(pause)

    @rule(how=st.sampled_from((Fault.REFUSED, Fault.LOST, Fault.SILENT, Fault.GARBAGE, Fault.NO_LEADER)), pause=pauses)
    def the_network_is_cut(self, how: Fault, pause: float) -> None:
        self.world.flink.cut = how
        self.world.pause(pause)

    @rule(pause=pauses)
    def the_network_is_whole(self, pause: float) -> None:
        self.world.flink.cut = None
        self.world.pause(pause)

    @rule(pause=pauses)
    def the_jobmanager_dies(self, pause: float) -> None:
        self.world.flink.restart()
        self.world.pause(pause)

    @rule(
        subject=subjects,
        fault=st.sampled_from((SubmissionFault.NOT_SENT, SubmissionFault.SENT, SubmissionFault.ARRIVES_LATE)),
        spec=specs,
        after=st.sampled_from((0.1, 0.7, 1.5)),
        pause=pauses,
    )
    def the_jobmanager_dies_after_a_submission(
        self, subject: str, fault: SubmissionFault, spec: dict[str, Any], after: float, pause: float
    ) -> None:
        self.world.flink.submission_faults.append(fault)
        self.world.create(subject, **spec)
        self.world.pause(after)
        self.world.flink.restart()
        self.world.pause(pause)

    @rule(seconds=st.sampled_from((0.5, 3.0, 8.0, 30.0)), pause=pauses)
    def another_jobmanager_recovers_the_jobs_late(self, seconds: float, pause: float) -> None:
        self.world.flink.fail_over(seconds)
        self.world.pause(pause)

    @rule(slots=st.sampled_from((0, 1, 1, 2, SLOTS)), pause=pauses)
    def taskmanagers_come_and_go(self, slots: int, pause: float) -> None:
        self.world.flink.slots = slots
        self.world.pause(pause)

    @rule(pause=pauses)
    def ended_jobs_expire(self, pause: float) -> None:
        self.world.flink.forget_ended()
        self.world.pause(pause)

    @rule(
        what=st.sampled_from((FakeFlink.fail, FakeFlink.finish, FakeFlink.cancel)),
        number=numbers,
        pause=pauses,
    )
    def a_job_ends(self, what: Callable[[FakeFlink, Job], None], number: int, pause: float) -> None:
        if live := self.world.flink.live():
            what(self.world.flink, live[number % len(live)])
        self.world.pause(pause)

    @rule(number=numbers, seconds=st.sampled_from((0.5, 4.0, 20.0)), pause=pauses)
    def a_job_restarts_by_itself(self, number: int, seconds: float, pause: float) -> None:
        if live := self.world.flink.live():
            self.world.flink.recover(live[number % len(live)], seconds)
        self.world.pause(pause)

    @precondition(lambda self: self._since_rest > _REST_EVERY)
    @rule()
    def all_comes_to_rest(self) -> None:
        self._since_rest = 0
        try:
            self.world.come_to_rest()
        except AssertionError:
            self._has_failed = True
            raise


def explore(new_database: Callable[[], URL], examples: int) -> None:
    """Run the machine, and print how many steps it took. ``HLINK_STEPS`` asks for more of them, ``SEED`` for others."""
    global steps
    steps = 0
    wanted = int(os.environ.get(VARIABLE, "0"))
    machine = type("Machine", (SupervisorMachine,), {"new_database": staticmethod(new_database)})
    settings = hypothesis.settings(
        # Some examples end early: with as many as would just do, the whole would be run again.
        max_examples=max(examples, wanted * 5 // 4 // _STEPS_OF_EXAMPLE),
        stateful_step_count=_STEPS_OF_EXAMPLE,
        deadline=None,
        database=None,
        derandomize="SEED" not in os.environ,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    seeded = hypothesis.seed(int(os.environ["SEED"])) if "SEED" in os.environ else lambda test: test
    while True:
        run_state_machine_as_test(seeded(machine), settings=settings)
        if steps >= wanted:
            break
        settings = hypothesis.settings(settings, max_examples=settings.max_examples * 2)
    print(f"{steps} steps, no promise broken")
