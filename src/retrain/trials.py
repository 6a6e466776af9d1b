"""Trains combinations of settings one after another, as long as there is time, and chooses the best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from retrain import sweep
from retrain.candidates import Candidate
from retrain.errors import TrainingError
from retrain.session import Session
from retrain.sweep import Trial
from retrain.time_limit import LEAST_SECONDS, Reserve, TimeLimit


@dataclass(frozen=True)
class Job:
    """A trial, and what trains it."""

    trial: Trial
    train: Callable[[Session], Candidate]


def best_candidate(jobs: Sequence[Job], session: Session, limit: TimeLimit, reserve: Reserve) -> Candidate:
    """Train every combination of settings, and return the best; of several, some may fail, or find no time.

    Raises:
        TrainingError: All failed.
    """
    if limit.is_set:
        seconds = reserve.end + reserve.each
        session.terminal.detail(f"Of --time_limit, {seconds:.0f} s are kept for what comes after a training.")
    if limit.is_over(reserve):
        session.terminal.warn(
            f"--time_limit is used up before the training, and what was computed is kept: the last layer gets "
            f"{LEAST_SECONDS:g} s."
        )
    candidates: dict[str, Candidate] = {}
    tried: list[Trial] = []
    for job in jobs:
        if candidates and (session.stopping.asked.is_set() or limit.is_over(reserve)):
            break
        deadline = limit.deadline(reserve, trainings=len(jobs) - len(tried))
        tried.append(job.trial)
        try:
            own = replace(session, stopping=replace(session.stopping, deadline=deadline))
            candidates[job.trial.name] = job.train(own)
        except TrainingError as error:
            if job is jobs[-1] and not candidates:
                raise
            session.terminal.warn(f"{job.trial.name} failed: {error}")
    if len(jobs) == 1:
        return candidates[""]
    best = _best(tried, candidates, session)
    if len(tried) < len(jobs):
        why = "Ctrl-C" if session.stopping.asked.is_set() else "--time_limit"
        session.terminal.say(f"{why} ended the comparison after {len(tried)} of {len(jobs)} combinations.")
    is_cut_short = len(tried) < len(jobs) or any(each.is_cut_short for each in candidates.values())
    return replace(best, is_cut_short=is_cut_short)


def _best(tried: Sequence[Trial], candidates: dict[str, Candidate], session: Session) -> Candidate:
    """Print the table of those that were trained, and return the best."""
    measured = {name: candidate.result for name, candidate in candidates.items() if candidate.result}
    results = [measured.get(trial.name) or sweep.failed_result(trial) for trial in tried]
    session.terminal.say_all(sweep.table(results))
    ranked = [results[index] for index in sweep.ranking(results)]
    return replace(candidates[ranked[0].name], ranked=ranked)
