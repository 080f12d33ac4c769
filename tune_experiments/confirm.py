"""The confirmation on Ray: runs with fresh seeds, the verdict, and the one place that opens the test set.

Its runs are trials like a search's, but for their seeds. The test set is loaded only when the winner has been chosen,
and is asked about the winner and the seed's setting alone, each run once.
"""

from collections.abc import Sequence
from contextlib import suppress

import ray

from cifar_core.config import TrainConfig
from cifar_core.datasets import TrainingData, load_test_data
from cifar_core.errors import UserError
from cifar_core.image_data import ImageData
from cifar_core.train import Trainer, evaluate
from cifar_core.whole_file import write_text_whole
from tune_experiments.config import Plan
from tune_experiments.confirmation import Confirmation, ConfirmLedger
from tune_experiments.experiment import Experiment, best_first
from tune_experiments.keeper import run_watched
from tune_experiments.ledger import Trial
from tune_experiments.monitoring import Progress
from tune_experiments.tuning import Site
from tune_experiments.verdict import CONFIRM_FILE, Verdict


def build_confirmation(ledger: ConfirmLedger, plan: Plan, trials: Sequence[Trial]) -> Confirmation:
    """The confirmation of a search's trials, new or not: its best, and the first, which has the seed's setting."""
    reference, best = trials[0], best_first(trials)[: plan.search.confirm_top]
    others = [] if any(trial is reference for trial in best) else [reference]
    return Confirmation(
        ledger, [*best, *others], reference.trial_id, plan.fresh_seeds, plan.train.epochs, plan.train.val_size
    )


def confirm(confirmation: Confirmation, site: Site, seconds: float | None) -> Verdict:
    """Train what is not trained yet, for at most so many `seconds`; decide; open the test set where that is not done.

    Raises:
        OSError: the experiment's folder can no longer be written.
        UserError: the test set cannot be read.
    """

    def write_verdict() -> None:
        write_text_whole(site.experiment.file(CONFIRM_FILE), confirmation.verdict.to_json())

    if confirmation.remaining and (seconds is None or seconds > 0):
        print(describe(confirmation), flush=True)
        progress = Progress(confirmation, site.nodes.slots, "run", standing=lambda runs: "", time_budget=seconds)
        run_watched(site, confirmation, "confirmation", progress, write_verdict, seconds)
    if runs := confirmation.runs_to_test():
        _open_test_set(confirmation.ledger, runs, site)
    write_verdict()
    return confirmation.verdict


def describe(confirmation: Confirmation) -> str:
    """What is about to be trained."""
    names = ", ".join(finalist.trial.trial_id for finalist in confirmation.finalists)
    seeds = ", ".join(map(str, confirmation.seeds))
    return f"Confirmation: trials {names} again, each with the seeds {seeds}; {confirmation.remaining} runs to go"


def settle(confirmation: Confirmation, experiment: Experiment, plan: Plan, trials: Sequence[Trial]) -> None:
    """After a finished confirmation: leaderboard by it, the winner in `best/`, checkpoints that nothing needs deleted.

    `best/` gets the search's own trial, or, where its checkpoint was not kept, the first of the winner's runs.
    """
    experiment.write_tables(trials, confirmation.verdict)
    chosen = [f for f in confirmation.finalists if f.trial.trial_id == confirmation.verdict.winner]
    candidates = [trial for finalist in chosen for trial in (finalist.trial, *finalist.runs)]
    best = [trial for trial in candidates if experiment.checkpoints.has(trial.trial_id)][:1] or candidates[:1]
    for trial in best:
        experiment.write_best(trial, plan)
    with suppress(OSError):  # what cannot go yet will the next time
        experiment.drop_checkpoints(trials, [trial.trial_id for trial in best])


def _open_test_set(ledger: ConfirmLedger, runs: Sequence[Trial], site: Site) -> None:
    train, search = site.plan.train, site.plan.search
    test = load_test_data(train)
    images = ray.put(test)
    task = ray.remote(num_cpus=search.cpus_per_trial, num_gpus=search.gpus_per_trial or 0)(evaluate_run)
    answers = ray.get([task.remote(run, train, site.data, images, site.experiment) for run in runs])
    ledger.add_opening(len(test), {run.trial_id: answer for run, answer in zip(runs, answers, strict=True)})


def evaluate_run(
    run: Trial, train: TrainConfig, data: TrainingData, test: ImageData, experiment: Experiment
) -> tuple[float, float]:
    """Loss and accuracy of a run's final weights on `test`; it is trained again where its checkpoint is lost."""
    trainer = Trainer(run.applied_to(train), data)
    with suppress(UserError, OSError):
        experiment.checkpoints.restore(trainer, run.trial_id)
    while not trainer.done:
        trainer.run_epoch(score_average=False)
    return evaluate(trainer.scored, test, trainer.compute)
