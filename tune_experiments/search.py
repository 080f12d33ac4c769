"""The command `python tune_experiments/search.py`: arguments to a plan, a plan to an experiment, and run it."""

import argparse
import sys
from typing import Any

from cifar_core.errors import UserError, one_line_errors
from cifar_core.options import Parser
from tune_experiments.access import LOOPBACK, check_dashboard_host
from tune_experiments.config import Plan, add_plan_options, preset_names, read_preset
from tune_experiments.experiment import Experiment, default_name
from tune_experiments.extension import extended_plan

DESCRIPTION = """Search max_lr, l1_factor and peak_epoch of the CIFAR-10 recipe with Ray Tune.

Without arguments it runs the quick preset: embedded images, CPU, minutes. The real thing:
  python tune_experiments/search.py --preset cifar10
The defaults below are those without a preset; a preset's own values are in tune_experiments/presets/.
An interrupted search goes on with --resume NAME; a finished one grows with --resume NAME --num-samples N.
"""
DEFAULT_PRESET = "quick"
MAY_CHANGE = {  # when a search is resumed
    "num_samples", "max_concurrent", "time_budget", "max_failures", "data_dir", "confirm_top", "confirm_seeds",
}  # fmt: skip
EXIT_FAULT = 1
EXIT_INTERRUPTED = 130


def build_parser() -> Parser:
    """Every flag, with its help."""
    parser = Parser(prog="search.py", description=DESCRIPTION)
    presets = ", ".join(preset_names())
    parser.add_argument("--preset", metavar="NAME|FILE", help=f"{presets}, or a YAML file (default: {DEFAULT_PRESET})")
    parser.add_argument("--name", help="of the experiment's folder (default: preset and time)")
    parser.add_argument(
        "--storage",
        metavar="DIR|URI",
        default="experiments",
        help="where experiments are kept: a folder, or s3://bucket/path and the like (default: %(default)s)",
    )
    parser.add_argument("--resume", metavar="NAME|PATH", help="go on with an experiment, up to --num-samples in all")
    parser.add_argument(
        "--extend-space",
        action="store_true",
        help="with --resume and a larger --num-samples: move the bounds out at which the best trial lies",
    )
    parser.add_argument("--address", metavar="auto|HOST:PORT", help="a Ray cluster to join (default: start Ray here)")
    parser.add_argument(
        "--dashboard", action=argparse.BooleanOptionalAction, default=True, help="start Ray's dashboard (default: on)"
    )
    parser.add_argument(
        "--dashboard-host",
        metavar="HOST",
        default=LOOPBACK,
        help="where the dashboard listens (default: %(default)s, for this machine only); 0.0.0.0, or another of this "
        "machine's addresses, opens it, its job API and so this account, unencrypted, to whoever has Ray's token",
    )
    parser.add_argument(
        "--mlflow",
        metavar="URI",
        nargs="?",
        const="",
        help="log to MLflow, too: a server or database (default: mlflow.db in the experiment's folder); user and "
        "password are better given in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    )
    parser.add_argument("--wandb", metavar="PROJECT", help="log to this project of Weights & Biases, too")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_plan_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code, 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with one_line_errors(debug="--debug" in arguments):
        given = vars(build_parser().parse(arguments))
        dashboard_host = _dashboard_host(given)
        experiment, plan = _new(given) if given["resume"] is None else _resumed(given)
        # Ray and torch: seconds that --help and a wrong flag need not wait
        from tune_experiments.loggers import Destinations
        from tune_experiments.run import run_search
        from tune_experiments.runtime import ClusterError

        advice = f"go on with {experiment.how_to_resume}"
        try:
            destinations = Destinations(given["mlflow"], given["wandb"])
            return run_search(experiment, plan, given["address"], dashboard_host, destinations)
        except KeyboardInterrupt:
            print(f"\ninterrupted; {advice}", file=sys.stderr)
            return EXIT_INTERRUPTED
        except ClusterError as error:
            print(f"error: Ray failed ({error}); {advice}", file=sys.stderr)
        except OSError as error:
            reason = f"cannot be written ({error.strerror or error})"
            print(f"error: {experiment}: {reason}; once it can be written again, {advice}", file=sys.stderr)
        return EXIT_FAULT


def _dashboard_host(given: dict[str, Any]) -> str | None:
    """Where the dashboard is to listen; none where none is started."""
    host: str = given["dashboard_host"]
    if not given["address"] and given["dashboard"]:
        check_dashboard_host(host)
        return host
    if host != LOOPBACK:
        raise UserError("--dashboard-host goes without --address and --no-dashboard: with them, none is started")
    return None


def _new(given: dict[str, Any]) -> tuple[Experiment, Plan]:
    if given["extend_space"]:
        raise UserError("--extend-space goes with --resume: a new search has no best trial yet")
    preset = DEFAULT_PRESET if given["preset"] is None else given["preset"]
    name = default_name(preset) if given["name"] is None else given["name"]
    plan = Plan.from_mapping(read_preset(preset), given, f"preset {preset}")
    return Experiment.at(given["storage"], name), plan


def _resumed(given: dict[str, Any]) -> tuple[Experiment, Plan]:
    for flag in ("preset", "name"):
        if given[flag] is not None:
            raise UserError(f"--{flag} does not go with --resume: the experiment has its own")
    experiment = Experiment.open(given["storage"], given["resume"])
    sections = experiment.read_sections()
    before = Plan.from_mapping(sections, {}, str(experiment.plan_file))
    after = Plan.from_mapping(sections, given, str(experiment.plan_file))
    for name in sections:
        old, new = vars(getattr(before, name)), vars(getattr(after, name))
        for key in old:
            if old[key] != new[key] and key not in MAY_CHANGE:
                raise UserError(f"{key} is {old[key]} in {experiment.path}; a search that is resumed cannot change it")
    return experiment, extended_plan(experiment, after) if given["extend_space"] else after


if __name__ == "__main__":
    sys.exit(main())
