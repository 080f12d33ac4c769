"""Figures show the data that they were given; how they look is for eyes."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis.compare import compare, describe_comparison, differences
from analysis.cost import cost_by_state, slot_timeline
from analysis.early_stopping_audit import rung_table, rung_values
from analysis.figures.compare import scores_of_several
from analysis.figures.cost import epochs_by_state, slot_gantt
from analysis.figures.curves import all_curves
from analysis.figures.importance import importance_bars
from analysis.figures.progress import best_of_several, best_so_far
from analysis.figures.ranking import SHOWN, best_trials
from analysis.figures.rungs import rung_against_score
from analysis.figures.settings import parallel_coordinates, score_map, slices
from analysis.progress import progress, stop_points
from analysis.ranking import rank_trials, top_settings
from analysis.tables import LATEX_ROWS, to_latex
from analysis.trials import Experiment
from cifar_core.errors import UserError
from tests.analysis.by_hand import COMPLETED, experiment_of, four_trials
from tests.tune_experiments.made_up import ended_trial


def drawn(figure: Figure) -> Figure:
    """The figure, after it was seen to have something on it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=40)
    buffer.seek(0)
    assert imread(buffer, format="png")[..., :3].std() > 0.01
    return figure


def test_best_trials_from_best_on_top() -> None:
    axes = drawn(best_trials(rank_trials(four_trials()))).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2.  00000 (seed)", "1.  00001"]
    points = [line for line in axes.lines if line.get_marker() in ("o", "*")]
    assert [line.get_xdata()[0] for line in points] == [70, 80]  # type: ignore[index]


def test_the_seeds_setting_is_shown_however_far_down() -> None:
    trials = [ended_trial(f"{n:05d}", COMPLETED, 0, 0, 0, 0.5 + n / 100) for n in range(40)]
    labels = drawn(best_trials(rank_trials(experiment_of(trials)))).axes[0].get_yticklabels()
    assert len(labels) == SHOWN + 1
    assert labels[0].get_text() == "40.  00000 (seed)"


def test_importance_bars_have_the_tables_lengths() -> None:
    rows = [["fANOVA", "a", 0.7, 0.6, 0.8], ["fANOVA", "b", 0.3, 0.2, 0.4], ["PED-ANOVA", "a", 0.5, 0.5, 0.5],
            ["PED-ANOVA", "b", 0.5, 0.4, 0.9]]  # fmt: skip
    table = pd.DataFrame(rows, columns=["method", "parameter", "importance", "low", "high"])
    axes = drawn(importance_bars(table)).axes[0]
    assert [patch.get_width() for patch in axes.patches] == pytest.approx([70, 30, 50, 50])  # type: ignore[attr-defined]


def test_slices_and_map_have_a_dot_for_each_completed_trial(experiment: Experiment) -> None:
    completed = experiment.completed
    panel = drawn(slices(experiment.trials, top_settings(experiment))).axes[0]
    dots = next(part for part in panel.collections if part.get_label() == "completed")
    expected = np.column_stack([completed["max_lr"], 100 * completed["score"]])
    assert np.allclose(np.asarray(dots.get_offsets()), expected)
    dots = next(
        part for part in drawn(score_map(experiment.trials)).axes[0].collections if part.get_label() == "completed"
    )
    peaks = np.asarray(dots.get_offsets())[:, 1]
    assert np.abs(peaks - completed["peak_epoch"].to_numpy()).max() <= 0.2


def test_the_maps_ground_appears_with_enough_trials(experiment: Experiment) -> None:
    first, second = experiment.trials, experiment.trials.assign(state="completed", score=experiment.trials["max_lr"])
    assert len(drawn(score_map(second)).axes[0].collections) > len(drawn(score_map(first)).axes[0].collections)


def test_parallel_coordinates_end_at_the_score(experiment: Experiment) -> None:
    axes = drawn(parallel_coordinates(experiment.trials)).axes[0]
    lines = next(part for part in axes.collections if isinstance(part, LineCollection)).get_segments()
    scores = experiment.completed["score"].sort_values()
    ends = [line[-1, 1] for line in lines]
    assert ends == pytest.approx((scores - scores.min()) / (scores.max() - scores.min()))


def test_curves_have_a_line_for_each_trial_and_a_mark_for_each_rung(experiment: Experiment) -> None:
    scores = experiment.completed.set_index("trial_id")["score"]
    axes = drawn(all_curves(experiment.epochs, scores, stop_points(experiment), experiment.rungs)).axes[0]
    lines = [line for part in axes.collections if isinstance(part, LineCollection) for line in part.get_segments()]
    assert len(lines) == experiment.epochs["trial_id"].nunique()
    assert [line.get_xdata()[0] for line in axes.lines] == experiment.rungs  # type: ignore[index]


def test_best_so_far_ends_at_the_best(experiment: Experiment) -> None:
    line = drawn(best_so_far(progress(experiment))).axes[0].lines[0]
    assert np.asarray(line.get_ydata())[-1] == pytest.approx(100 * experiment.trials["score"].max())


def test_rung_panels(experiment: Experiment) -> None:
    figure = drawn(rung_against_score(rung_values(experiment), rung_table(experiment)))
    assert [axes.get_title().split(",")[0] for axes in figure.axes] == [f"after epoch {n}" for n in experiment.rungs]


def test_cost_bars_and_slots(experiment: Experiment) -> None:
    table, timeline = cost_by_state(experiment), slot_timeline(experiment)
    bars = drawn(epochs_by_state(table, saved=7)).axes[0].patches
    assert [bar.get_width() for bar in bars] == [*table["epochs"], 7]  # type: ignore[attr-defined]
    boxes = [path for part in drawn(slot_gantt(timeline)).axes[0].collections for path in part.get_paths()]
    assert len(boxes) == len(timeline)


def test_several_searches(experiment: Experiment) -> None:
    other = four_trials()
    table = compare([experiment, other])
    drawn(best_of_several({one.name: progress(one) for one in (experiment, other)}))
    scores = {one.name: one.completed["score"] for one in (experiment, other)}
    axes = drawn(scores_of_several(scores, table.set_index("experiment")["seed_setting"])).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["finished", "by-hand"]
    assert "differ in epochs, data_fingerprint" in describe_comparison(table, differences([experiment, other]))
    assert "finished found 88.6 %" in describe_comparison(table, [])
    assert "nothing to compare" in describe_comparison(compare([experiment, experiment_of([])]), [])
    with pytest.raises(UserError, match="two of the experiments have this name"):
        compare([other, other])


def test_latex_has_the_first_rows_and_no_nan(experiment: Experiment) -> None:
    text = to_latex(rank_trials(experiment))
    assert text.count(r"\\") == 1 + LATEX_ROWS
    assert "is\\_seed\\_setting" in text
    assert "nan" not in text.lower()
