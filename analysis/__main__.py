"""`python -m analysis EXPERIMENT...`: rank the trials, draw the figures, write the report."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pyarrow.fs import LocalFileSystem

from analysis.report import facts_of, png, progress_line, render
from analysis.sections import (
    Section,
    best_model_section,
    comparison_section,
    confirmation_section,
    cost_section,
    ranking_section,
    sections,
)
from analysis.tables import write_table
from analysis.trials import folder_at, read_experiment
from cifar_core.errors import UserError, one_line_errors
from cifar_core.options import Parser
from tune_experiments.records import LEADERBOARD_COLUMNS
from tune_experiments.remote_folder import RemoteFolder, is_uri

DESCRIPTION = """Turn experiment folders, finished, running or interrupted, into answers.

One experiment: leaderboard.csv, report.html, figures/ and tables/, in its folder or in --output.
Several: they are compared, in --output (default: comparison).
"""
COMPARISON = "comparison"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with one_line_errors(debug="--debug" in arguments):
        chosen = build_parser().parse(arguments)
        output = chosen.output or (chosen.experiments[0] if len(chosen.experiments) == 1 else COMPARISON)
        target = _target(output)
        with tempfile.TemporaryDirectory() as temporary:
            if len(chosen.experiments) == 1:
                answers = _write_one(chosen.experiments[0], chosen.best_model, chosen.data_dir, Path(temporary))
            else:
                answers = _write_comparison(chosen.experiments, Path(temporary))
            _move(Path(temporary), target)
        for section in answers:
            print(f"{section.question}\n  " + "\n  ".join(section.sentences))
        print(f"Written: {output.split('?')[0]}/report.html, and figures/ and tables/ beside it")
    return 0


def build_parser() -> Parser:
    """Every flag, with its help."""
    parser = Parser(prog="python -m analysis", description=DESCRIPTION)
    parser.add_argument("experiments", nargs="+", metavar="EXPERIMENT", help="an experiment's folder or URI")
    parser.add_argument("--output", metavar="DIR|URI", help="where to write (default: see above)")
    parser.add_argument(
        "--best-model",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the best model on the validation images; the only part that needs torch and the data set",
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the data set, if not where the search found it")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _write_one(location: str, with_model: bool, data_dir: Path | None, folder: Path) -> list[Section]:
    experiment = read_experiment(location)
    answers = sections(experiment)
    if with_model:
        answers.append(best_model_section(location, experiment, data_dir))
    ranking = answers[0].tables["ranking"]
    ranking.filter(items=LEADERBOARD_COLUMNS).to_csv(folder / "leaderboard.csv", index=False)
    _write(experiment.name, progress_line(experiment), answers, facts_of(experiment), folder)
    return answers


def _write_comparison(locations: Sequence[str], folder: Path) -> list[Section]:
    experiments = [read_experiment(location) for location in locations]
    answers = [comparison_section(experiments)]
    for experiment in experiments:
        answer = Section(experiment.name, [progress_line(experiment)])
        for part in (ranking_section, confirmation_section, cost_section):
            answer.sentences += part(experiment).sentences
        answers.append(answer)
    facts = {experiment.name: "; ".join(facts_of(experiment).values()) for experiment in experiments}
    title = " · ".join(experiment.name for experiment in experiments)
    _write(title, f"{len(experiments)} searches side by side", answers, facts, folder)
    return answers


def _write(title: str, subtitle: str, answers: Sequence[Section], facts: dict[str, str], folder: Path) -> None:
    for name in ("figures", "tables"):
        (folder / name).mkdir()
    pictures = {name: png(figure) for section in answers for name, (figure, _) in section.figures.items()}
    for name, picture in pictures.items():
        (folder / "figures" / f"{name}.png").write_bytes(picture)
    for section in answers:
        for name, table in section.tables.items():
            write_table(table, folder / "tables", name)
    (folder / "report.html").write_text(render(title, subtitle, answers, pictures, facts), encoding="utf-8")


def _target(location: str) -> RemoteFolder:
    if is_uri(location):
        return folder_at(location)
    return RemoteFolder(LocalFileSystem(), Path(location).expanduser().resolve().as_posix())


def _move(folder: Path, target: RemoteFolder) -> None:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    try:
        for file in files:
            target.upload(file, file.relative_to(folder).as_posix())
    except OSError as error:
        raise UserError(f"{target.path}: cannot be written ({' '.join(str(error).split())})") from None


if __name__ == "__main__":
    sys.exit(main())
