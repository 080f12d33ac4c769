"""A user's questions about a search, each answered by sentences with numbers, figures and tables."""

from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from analysis import compare as comparison
from analysis.cost import cost_by_state, describe_cost, slot_timeline
from analysis.early_stopping_audit import describe_rungs, rung_table, rung_values, savings
from analysis.figures.compare import scores_of_several
from analysis.figures.cost import epochs_by_state, slot_gantt
from analysis.figures.curves import all_curves
from analysis.figures.importance import importance_bars
from analysis.figures.progress import best_of_several, best_so_far
from analysis.figures.ranking import best_trials
from analysis.figures.rungs import rung_against_score
from analysis.figures.settings import parallel_coordinates, score_map, slices
from analysis.importance import describe_importances, importances
from analysis.progress import describe_progress, progress, stop_points
from analysis.ranking import describe_ranking, describe_top, rank_trials, top_settings
from analysis.trials import Experiment


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


def sections(experiment: Experiment) -> list[Section]:
    """All questions that the tables answer, whatever there is of the search."""
    return [
        ranking_section(experiment),
        importance_section(experiment),
        learning_section(experiment),
        early_stopping_section(experiment),
        cost_section(experiment),
    ]


def ranking_section(experiment: Experiment) -> Section:
    """Which trials are best?"""
    board = rank_trials(experiment)
    section = Section("Which trials are best?", [describe_ranking(board, experiment.val_images)])
    if len(experiment.completed):
        caption = "Completed trials, best first. Grey: the best one's interval. Star: the seed's setting."
        section.figures["best_trials"] = best_trials(board), caption
    section.tables["ranking"] = board
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
        section.sentences.append(describe_top(top, len(completed)))
        section.tables["top_settings"] = top
        section.figures |= {
            "slices": (slices(experiment.trials, top), "Score against each parameter. Dotted: the space's bounds."),
            "score_map": (score_map(experiment.trials), "Score over max_lr and peak_epoch."),
            "parallel": (parallel_coordinates(experiment.trials), "Each completed trial's setting and its score."),
        }
    return section


def learning_section(experiment: Experiment) -> Section:
    """How did learning go?"""
    table = progress(experiment)
    section = Section("How did learning go?", [describe_progress(experiment, table)], tables={"progress": table})
    scores = experiment.completed.set_index("trial_id")["score"]
    if len(experiment.epochs):
        curves = all_curves(experiment.epochs, scores, stop_points(experiment), experiment.rungs)
        section.figures["curves"] = curves, "Validation accuracy of every trial. Crosses: stopped there."
    if len(scores):
        section.figures["best_so_far"] = best_so_far(table), "Best score so far against what was spent."
    return section


def early_stopping_section(experiment: Experiment) -> Section:
    """Was early stopping right?"""
    table = rung_table(experiment)
    section = Section("Was early stopping right?", [describe_rungs(experiment, table)])
    if len(table):
        section.tables["rungs"] = table
    if len(table) and len(experiment.completed):
        caption = "Accuracy at a rung against the final score. Crosses along the bottom: stopped, no score."
        section.figures["rungs"] = rung_against_score(rung_values(experiment), table), caption
    return section


def cost_section(experiment: Experiment) -> Section:
    """What did it cost?"""
    table, timeline = cost_by_state(experiment), slot_timeline(experiment)
    section = Section("What did it cost?", [describe_cost(experiment, table, timeline)])
    if len(timeline):
        section.tables = {"cost": table, "slots": timeline}
        section.figures = {
            "epochs": (epochs_by_state(table, savings(experiment)["saved"]), "Where the epochs went."),
            "slots": (slot_gantt(timeline), "Which trial ran when, in which slot."),
        }
    return section


def comparison_section(experiments: list[Experiment]) -> Section:
    """Which experiment found more, and for how much?"""
    table = comparison.compare(experiments)
    text = comparison.describe_comparison(table, comparison.differences(experiments))
    section = Section("Which search did better?", [text], tables={"comparison": table})
    scores = {one.name: one.completed["score"] for one in experiments if len(one.completed)}
    if scores:
        seeds = table.set_index("experiment")["seed_setting"]
        curves = {one.name: progress(one) for one in experiments if len(one.completed)}
        section.figures = {
            "best_of_several": (best_of_several(curves), "Best score so far of each search."),
            "scores_of_several": (scores_of_several(scores, seeds), "Every completed trial of each search."),
        }
    return section
