"""A user's questions about a search, each answered by sentences with numbers, figures and tables."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis import compare as comparison
from analysis.confirmation import confirmation_table, describe_confirmation, run_table
from analysis.cost import cost_by_state, describe_cost, slot_timeline
from analysis.early_stopping_audit import describe_rungs, rung_table, rung_values, savings
from analysis.figures.compare import scores_of_several
from analysis.figures.confirmation import confirmation
from analysis.figures.cost import epochs_by_state, slot_gantt
from analysis.figures.curves import MOST_LINES, all_curves
from analysis.figures.importance import importance_bars
from analysis.figures.progress import best_of_several, best_so_far
from analysis.figures.range_test import scores_on_range_test
from analysis.figures.ranking import best_trials
from analysis.figures.rungs import rung_against_end
from analysis.figures.settings import parallel_coordinates, score_map, slices
from analysis.importance import describe_importances, importances
from analysis.progress import describe_progress, progress, stop_points
from analysis.range_test import describe_range
from analysis.ranking import best_tenth, describe_ranking, describe_top, rank_trials, top_settings
from analysis.trials import Experiment
from cifar_core.errors import UserError


@dataclass
class Section:
    """One question and its answer.

    Attributes:
        question: the heading.
        sentences: paragraphs of the answer.
        figures: with what each shows, by the name of its file.
        tables: by the name of their files.
    """

    question: str
    sentences: list[str]
    figures: dict[str, tuple[Figure, str]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def figure(self, name: str) -> Figure | None:
        """A figure by its name; None where the search has nothing to draw in it yet."""
        return self.figures[name][0] if name in self.figures else None

    def _repr_markdown_(self) -> str:
        """What a notebook shows of a section: its paragraphs."""
        return "\n\n".join(self.sentences)


def sections(experiment: Experiment) -> list[Section]:
    """All questions that the tables answer, whatever there is of the search."""
    return [
        ranking_section(experiment),
        confirmation_section(experiment),
        importance_section(experiment),
        learning_section(experiment),
        early_stopping_section(experiment),
        cost_section(experiment),
    ]


def ranking_section(experiment: Experiment) -> Section:
    """Which trials are best?"""
    board = rank_trials(experiment)
    section = Section("Which trials are best?", [describe_ranking(board, experiment.val_images)])
    if board["rank"].notna().any():
        caption = "Best first. Star: the seed's setting. Grey: the best one's interval."
        section.figures["best_trials"] = best_trials(board), caption
    section.tables["ranking"] = board
    return section


def confirmation_section(experiment: Experiment) -> Section:
    """Does it hold with fresh seeds?"""
    verdict = experiment.verdict
    section = Section("Does it hold with fresh seeds?", describe_confirmation(verdict))
    if verdict:
        table, runs = confirmation_table(verdict), run_table(verdict)
        section.tables = {"confirmation": table, "confirmation_runs": runs}
        if runs["val_accuracy"].notna().any():
            caption = (
                "Left: each finalist's score in the search, its runs with fresh seeds, and their mean with its 95 % "
                "interval; the arrow is what the winner's curse cost. Right: the same seeds' differences to the "
                "seed's setting; an interval that crosses the dashed line establishes nothing."
            )
            section.figures["confirmation"] = confirmation(table, runs), caption
    return section


def importance_section(experiment: Experiment) -> Section:
    """What matters, and where the best lie?"""
    completed = experiment.completed
    table = importances(experiment)
    section = Section("What matters?", [describe_importances(table, len(completed))], tables={"importance": table})
    if table.empty:
        del section.tables["importance"]
    else:
        section.figures["importance"] = importance_bars(table), "Importance of each parameter by two methods."
    if len(completed):
        top = top_settings(experiment)
        section.sentences.append(describe_top(experiment, top))
        section.tables["top_settings"] = top
        section.figures |= {
            "slices": (slices(experiment.trials, top), "Score against each parameter. Dotted: the space's bounds."),
            "score_map": (score_map(experiment.trials), "Score over max_lr and peak_epoch."),
            "parallel": (parallel_coordinates(experiment.trials), "Each completed trial's setting and its score."),
        }
        _add_range_test(section, experiment, top)
    return section


def _add_range_test(section: Section, experiment: Experiment, top: pd.DataFrame) -> None:
    test, trials = experiment.range_test, experiment.trials
    if test:
        section.sentences.append(describe_range(test, top))
        figure = scores_on_range_test(test, trials, best_tenth(experiment))
        caption = "The LR range test's sweeps, smoothed, and the completed trials' scores at their max_lr."
        section.figures["range_test"] = figure, caption


def learning_section(experiment: Experiment) -> Section:
    """How did learning go?"""
    table = progress(experiment)
    section = Section("How did learning go?", [describe_progress(experiment, table)], tables={"progress": table})
    scores = experiment.completed.set_index("trial_id")["score"]
    if len(experiment.epochs):
        curves = all_curves(experiment.epochs, scores, stop_points(experiment), experiment.rungs)
        trials = experiment.epochs["trial_id"].nunique()
        which = "every trial" if trials <= MOST_LINES else f"{MOST_LINES} of {trials:,} trials, the best among them"
        section.figures["curves"] = curves, f"Validation accuracy of {which}. Crosses: stopped there."
    if len(scores):
        section.figures["best_so_far"] = best_so_far(table), "Best score so far against what was spent."
    return section


def early_stopping_section(experiment: Experiment) -> Section:
    """Was early stopping right?"""
    table = rung_table(experiment)
    section = Section("Was early stopping right?", describe_rungs(experiment, table))
    values = rung_values(experiment)
    if len(table):
        section.tables["rungs"] = table
    if values["end"].notna().any():
        caption = "Accuracy at a rung against the final one. Crosses along the bottom: stopped, the end is not known."
        section.figures["rungs"] = rung_against_end(values, table), caption
    return section


def cost_section(experiment: Experiment) -> Section:
    """What did it cost?"""
    table, timeline, saved = cost_by_state(experiment), slot_timeline(experiment), savings(experiment).saved
    section = Section("What did it cost?", [describe_cost(experiment, table, timeline, saved)])
    if len(timeline):
        section.tables = {"cost": table, "slots": timeline}
        section.figures = {
            "epochs": (epochs_by_state(table, saved), "Where the epochs went."),
            "slots": (slot_gantt(timeline), "Which trial ran when, in which slot."),
        }
    return section


def best_model_section(location: str, experiment: Experiment, data_dir: Path | None = None) -> Section:
    """What does the best model get wrong? Or why that cannot be said: no reason to go without the rest."""
    section = Section("What does the best model get wrong?", [])
    try:
        from analysis.best_model import BestModel  # torch: seconds that the other sections need not wait for

        model = BestModel(location, experiment, data_dir)
        section.sentences.append(model.describe())
        section.figures = model.figures()
    except UserError as error:
        section.sentences.append(f"This cannot be said: {error}.")
    return section


def comparison_section(experiments: list[Experiment]) -> Section:
    """Which experiment found more, and for how much?"""
    table = comparison.compare(experiments)
    text = comparison.describe_comparison(table, comparison.differences(experiments))
    section = Section("Which search did better?", [text], tables={"comparison": table})
    scores = {one.name: one.completed["score"] for one in experiments if len(one.completed)}
    if scores:
        by_name = table.set_index("experiment")
        curves = {one.name: progress(one) for one in experiments if len(one.completed)}
        section.figures = {
            "best_of_several": (best_of_several(curves), "Best score so far of each search."),
            "scores_of_several": (scores_of_several(scores, by_name), "Every completed trial of each search."),
        }
    return section
