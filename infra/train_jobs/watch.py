"""Has some work done by TrainJobs: one is made, watched to its end, and made again where machines were lost.

A TrainJob has the name of run, work and attempt, so that asking twice makes one; who watches may be begun again, and takes it up.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from governance.errors import RefusedError
from infra.cluster_values import seconds
from infra.errors import BackendUnavailableError, BadSettingError, InfraError
from infra.train_jobs.api import ClusterUnreachableError, TrainJobApi
from infra.train_jobs.manifest import TrainJobWork, train_job
from infra.train_jobs.plan import TrainJobPlan
from infra.train_jobs.pods import why_lost, why_waiting
from infra.train_jobs.status import TrainJobStatus, read_status

_POLL_S: Final = 5.0
_GONE_WITHIN_S: Final = 120.0
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0

_Found = TypeVar("_Found")


class Shared(Protocol):
    """What the watcher and a TrainJob's machines share."""

    def prepare(self, name: str) -> None:
        """Writes what a TrainJob is to do, and drops what an earlier one of its name has left."""

    def relay(self, name: str) -> None:
        """Passes on what its machines have told since."""

    def wait(self, line: str) -> None:
        """Shows, at every look, that the machines are still waited for: it is no standstill of theirs."""

    def has_result(self, name: str) -> bool:
        """Whether its machines have left what they were to make."""

    def last_words(self, name: str) -> "LastWords | None":
        """Returns why its machines ended, where they have told."""


@dataclass(frozen=True, kw_only=True)
class LastWords:
    """Why machines ended by what they say themselves, and whether another attempt would only repeat it."""

    error: InfraError
    is_final: bool


@dataclass(frozen=True, kw_only=True)
class TrainJobDone:
    """A TrainJob that has done its work: its name, and which attempt it was."""

    name: str
    attempt: int


class TrainJobRunner:
    """Has work done by TrainJobs.

    Args:
        api: The cluster.
        plan: What a TrainJob is made with.
        say: Told in a line what goes on.
        clock: Seconds.
        sleep: Waits for so many.
    """

    def __init__(
        self,
        api: TrainJobApi,
        plan: TrainJobPlan,
        *,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api, self._plan, self._say = api, plan, say
        self._clock, self._sleep = clock, sleep

    def run(self, work: TrainJobWork, shared: Shared) -> TrainJobDone:
        """Does it, in as many attempts as the plan has.

        Raises:
            BackendUnavailableError: The cluster does not answer any more, does not begin the TrainJob, or loses its machines
                every time.
            RefusedError: The cluster does not accept the token, or what is asked of it.
            BadSettingError: The cluster does not accept the TrainJob.
            InfraError: What the machines have told.
        """
        taken_up = self._taken_up(work, shared)
        attempt = taken_up.attempt if taken_up else 1
        while True:
            name = work.name(attempt)
            try:
                if taken_up is None:
                    shared.prepare(name)
                    self._create(work, attempt)
                ended = self._watched(name, shared)
            except (ClusterUnreachableError, RefusedError):
                raise  # it goes on, and whoever comes next takes it up
            except BaseException:
                with suppress(InfraError, RefusedError):
                    self._api.delete(name)
                raise
            if ended.is_complete:
                return TrainJobDone(name=name, attempt=attempt)
            self._require_another(ended, attempt, shared)
            self._end(name)
            taken_up, attempt = None, attempt + 1

    def clear(self, name: str) -> None:
        """Removes a TrainJob whose work is done; where that fails, it only stays to be looked at."""
        with suppress(InfraError, RefusedError):
            self._api.delete(name)

    def _taken_up(self, work: TrainJobWork, shared: Shared) -> TrainJobStatus | None:
        """Returns the run's own TrainJob where there is one to go on with; ends all others that do the same work."""
        found = sorted(map(read_status, self._api.listed(work.selector)), key=lambda one: -one.attempt)
        own = next((one for one in found if _is_worth_taking_up(one, work, shared)), None)
        for one in found:
            if one is not own:
                self._say(f"ending the TrainJob {one.name}, which did the same work")
                self._end(one.name)
        if own is not None:
            self._say(f"taking up the TrainJob {own.name}")
        return own

    def _create(self, work: TrainJobWork, attempt: int) -> None:
        name, manifest = work.name(attempt), train_job(work, self._plan, attempt)
        if self._patiently(lambda: self._api.create(manifest)):
            self._say(f"made the TrainJob {name} in {self._api.namespace}, attempt {attempt} of {self._plan.job.attempts}")
            return
        found = self._patiently(lambda: self._api.read(name))
        status = read_status(found or {})
        if status.is_going or status.run_id != work.run_id:
            whose = "that is still ending" if status.is_going else "that is not this run's"
            raise BadSettingError(
                f"there is a TrainJob {name} {whose}", hint=f"kubectl delete trainjob {name}; then run it again"
            )

    def _watched(self, name: str, shared: Shared) -> TrainJobStatus:
        """Returns a TrainJob that has ended."""
        begun, told = self._clock(), ""
        while True:
            job = self._patiently(lambda: self._api.read(name))
            shared.relay(name)
            if job is None:
                raise BackendUnavailableError(
                    f"the TrainJob {name} was deleted on the cluster", hint="run it again: it goes on from its last checkpoint"
                )
            status = read_status(job)
            if status.has_ended:
                return status
            if not status.has_started and self._clock() - begun > seconds(self._plan.job.start_within):
                raise self._never_started(status)
            now = f"the TrainJob {name} {_doing(status)}"
            if now != told:
                self._say(now)
                told = now
            if status.is_waiting:
                shared.wait(now)
            self._sleep(_POLL_S)

    def _never_started(self, status: TrainJobStatus) -> InfraError:
        reason = status.suspended or why_waiting(self._api, status.name) or "its conditions and pods do not say for what"
        return BackendUnavailableError(
            f"the TrainJob {status.name} has not started within {self._plan.job.start_within}; it waits: {reason}",
            hint="make room in the cluster, or ask for less in `train_job`; then run it again",
        )

    def _require_another(self, ended: TrainJobStatus, attempt: int, shared: Shared) -> None:
        """Raises why no other attempt is made; says why one is."""
        words = shared.last_words(ended.name)
        if words is not None and words.is_final:
            raise words.error
        lost = why_lost(self._api, ended.name) or (words.error.diagnosis if words else "")
        told = f"the TrainJob {ended.name} failed: {ended.failure}{f' ({lost})' if lost else ''}"
        if not ended.may_be_begun_again:
            raise BackendUnavailableError(told, hint="look at `train_job` and the step's timeout, then run it again")
        if attempt >= self._plan.job.attempts:
            raise BackendUnavailableError(
                f"{told}, in attempt {attempt} of {self._plan.job.attempts}",
                hint="run it again: it goes on from its last checkpoint; `kubectl logs` of its pods may say more",
            )
        self._say(f"{told}; it goes on from its last checkpoint")

    def _end(self, name: str) -> None:
        """Deletes a TrainJob, and waits until its pods are gone, for as long as one that can be reached takes."""
        self._patiently(lambda: self._api.delete(name))
        since = self._clock()
        while self._patiently(lambda: self._api.read(name)) is not None:
            if self._clock() - since > _GONE_WITHIN_S:  # a pod on a lost node stays until the node is removed
                self._say(f"the TrainJob {name} is still ending after {_GONE_WITHIN_S:.0f} s; going on without it")
                return
            self._sleep(_POLL_S)

    def _patiently(self, ask: Callable[[], _Found]) -> _Found:
        """Asks again where the cluster does not answer, ever more seldom, for as long as the plan has it."""
        failing_since, wait = None, _FIRST_WAIT_S
        while True:
            try:
                return ask()
            except ClusterUnreachableError as error:
                now = self._clock()
                if failing_since is None:
                    failing_since = now
                    self._say(f"{error.diagnosis}; asking again")
                if now - failing_since >= seconds(self._plan.job.unreachable_for):
                    raise ClusterUnreachableError(
                        f"{error.diagnosis}, for {self._plan.job.unreachable_for} now",
                        hint="what trains there goes on; the same work takes it up, or its last checkpoint, when it is run again",
                    ) from error
                self._sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_S)


def _is_worth_taking_up(one: TrainJobStatus, work: TrainJobWork, shared: Shared) -> bool:
    if one.run_id != work.run_id or one.is_going or one.failure or one.name != work.name(one.attempt):
        return False
    return not one.is_complete or shared.has_result(one.name)


def _doing(status: TrainJobStatus) -> str:
    if status.suspended:
        return f"is held back: {status.suspended}"
    return "waits for its machines" if status.is_waiting else "trains"
