"""`--extend-space`: more room for a resumed search whose best trial lies at a bound of the space."""

from dataclasses import asdict, replace

from cifar_core.errors import UserError
from tune_experiments.config import Plan
from tune_experiments.experiment import Experiment, best_first
from tune_experiments.ledger import Ledger
from tune_experiments.search_space import SearchSpace, default_peak_range, edges, extended


def extended_plan(experiment: Experiment, plan: Plan) -> Plan:
    """The plan with the bounds moved out at which the best trial so far lies.

    Raises:
        UserError: no trial completed yet, the best one lies inside the space, or no trial is left to use more room.
    """
    trials = list(Ledger(experiment.ledger).trials.values())
    best = best_first(trials)
    if not best:
        raise UserError(f"{experiment}: no trial has completed yet, so nothing says where to extend the space")
    space = searched_space(experiment, plan)
    at = edges(space, best[0].setting)
    if not at:
        raise UserError(f"{experiment}: the best trial ({best[0].trial_id}) lies inside the space; nothing to extend")
    if plan.search.num_samples <= len(trials):
        raise UserError(f"--extend-space wants new trials: give --num-samples above {len(trials)}")
    wider = asdict(extended(space, at, plan.train.epochs))
    return replace(plan, search=replace(plan.search, **{f"{name}_range": bounds for name, bounds in wider.items()}))


def searched_space(experiment: Experiment, plan: Plan) -> SearchSpace:
    """The space of a search that has begun."""
    search = plan.search
    return SearchSpace(
        max_lr=search.max_lr_range or _suggested_range(experiment),
        l1_factor=search.l1_factor_range,
        peak_epoch=search.peak_epoch_range or default_peak_range(plan.train.epochs),
    )


def _suggested_range(experiment: Experiment) -> tuple[float, float]:
    from cifar_core.lr_range_test import RangeTest  # torch: seconds that other bad input need not wait for

    file = experiment.range_test
    try:
        return RangeTest.from_json(file.read_text(encoding="utf-8")).suggestion.max_lr_range
    except (UserError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: {reason}; delete it, and the range test runs again when the search goes on") from None
