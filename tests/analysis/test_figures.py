"""Figures show the data that they were given; how they look is for eyes."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray

from analysis.compare import compare, describe_comparison, differences
from analysis.confirmation import confirmation_table, run_table
from analysis.cost import cost_by_state, slot_timeline
from analysis.early_stopping_audit import rung_table, rung_values
from analysis.figures.compare import scores_of_several
from analysis.figures.confirmation import confirmation
from analysis.figures.cost import epochs_by_state, slot_gantt
from analysis.figures.curves import MOST_LINES, all_curves
from analysis.figures.importance import importance_bars
from analysis.figures.progress import best_of_several, best_so_far
from analysis.figures.range_test import scores_on_range_test
from analysis.figures.ranking import SHOWN, best_trials
from analysis.figures.rungs import rung_against_end
from analysis.figures.settings import parallel_coordinates, score_map, slices
from analysis.figures.shared import clock_unit
from analysis.progress import progress, stop_points
from analysis.ranking import best_tenth, rank_trials, top_settings
from analysis.report import render, with_flags_whole
from analysis.sections import ranking_section
from analysis.tables import LATEX_ROWS, to_latex
from analysis.trials import Experiment, read_experiment
from cifar_core.errors import UserError
from tests.analysis.by_hand import COMPLETED, experiment_of, four_trials
from tests.analysis.folders import PLAN, add_confirmation, add_range_test, make_experiment
from tests.tune_experiments.made_up import ended_trial


def drawn(figure: Figure) -> Figure:
    """The figure, after it was seen to have something on it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=40)
    buffer.seek(0)
    assert imread(buffer, format="png")[..., :3].std() > 0.01
    return figure


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A finished search with a range test, 40 trials of which none was stopped, four of them confirmed."""
    folder = tmp_path_factory.mktemp("experiments") / "confirmed"
    make_experiment(folder, replace(PLAN, search=replace(PLAN.search, num_samples=40, scheduler="none")))
    add_confirmation(folder)
    add_range_test(folder)
    return read_experiment(str(folder))


def points(axes: Axes, label: str) -> NDArray[np.float64]:
    """Where the marks with a label are."""
    return np.asarray(next(part for part in axes.collections if part.get_label() == label).get_offsets())


def test_confirmation_has_every_score_seed_mean_and_difference(confirmed: Experiment) -> None:
    assert confirmed.verdict
    table, runs = confirmation_table(confirmed.verdict), run_table(confirmed.verdict)
    left, right = drawn(confirmation(table, runs)).axes
    assert [label.get_text() for label in left.get_yticklabels()] == [*table["trial_id"][:3], "00000 (seed)"]
    assert points(left, "score in the search")[:, 0] == pytest.approx(100 * table["search_score"])
    assert points(left, "one fresh seed")[:, 0] == pytest.approx(100 * runs["val_accuracy"])
    assert points(left, "a finalist's mean, 95 % interval")[:, 0] == pytest.approx(100 * table["mean"][:3])
    assert points(left, "the seed's setting").tolist() == [pytest.approx([100 * table["mean"][3], 3])]
    assert points(left, "on the test set")[:, 0] == pytest.approx(100 * table["test_accuracy"].dropna())
    assert points(right, "a finalist's mean, 95 % interval")[:, 0] == pytest.approx(100 * table["gain"][:3])
    low, high = right.get_xlim()
    assert low < 0 < 100 * table["gain"].max() < high  # the seed's setting is in the picture


def test_a_confirmation_with_lost_runs_can_be_drawn(confirmed: Experiment) -> None:
    assert confirmed.verdict
    table, runs = confirmation_table(confirmed.verdict), run_table(confirmed.verdict)
    estimates = table.columns[table.columns.get_loc("mean") :]
    drawn(confirmation(table.assign(**dict.fromkeys(estimates, np.nan)), runs.assign(gain=np.nan)))


def test_intervals_of_two_seeds_leave_the_points_apart(confirmed: Experiment) -> None:
    assert confirmed.verdict
    table, runs = confirmation_table(confirmed.verdict), run_table(confirmed.verdict)
    wide = table.assign(low=table["mean"] - 0.5, high=table["mean"] + 0.5)
    low, high = confirmation(wide, runs).axes[0].get_xlim()
    scores = 100 * pd.concat([runs["val_accuracy"], table["search_score"], table["test_accuracy"]])
    assert high - low < 5 * (scores.max() - scores.min())


def test_scores_on_the_range_test(confirmed: Experiment) -> None:
    assert confirmed.range_test
    best = best_tenth(confirmed)
    above, below = drawn(scores_on_range_test(confirmed.range_test, confirmed.trials, best)).axes
    assert len([line for line in above.lines if str(line.get_label()).startswith("seed ")]) == 3
    assert np.allclose(points(below, "best 10 %"), np.column_stack([best["max_lr"], 100 * best["score"]]))
    assert len(points(below, "completed")) == len(confirmed.completed) - len(best)
    assert above.get_xlim() == below.get_xlim()


def test_the_confirmed_have_both_scores_in_the_ranking(confirmed: Experiment) -> None:
    board = rank_trials(confirmed)
    axes = drawn(best_trials(board)).axes[0]
    means, scores = (
        [line.get_xdata()[0] for line in axes.lines if line.get_label() == label]  # type: ignore[index]
        for label in ("mean of fresh seeds", "its score in the search")
    )
    assert means == pytest.approx((100 * board["confirmed_mean"][:3]).tolist()[::-1])
    assert scores == pytest.approx((100 * board["score"][:4]).tolist()[::-1])


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


def test_of_many_curves_the_best_and_a_part_of_the_others_are_drawn() -> None:
    trials = [ended_trial(f"{n:05d}", COMPLETED, 0.1, 0.2, 0.3, 0.3 + n / 5000) for n in range(MOST_LINES + 300)]
    experiment = experiment_of(trials)
    scores = experiment.completed.set_index("trial_id")["score"]
    axes = drawn(all_curves(experiment.epochs, scores, stop_points(experiment), [])).axes[0]
    lines = [line for part in axes.collections if isinstance(part, LineCollection) for line in part.get_segments()]
    assert len(lines) == MOST_LINES
    assert max(line[-1, 1] for line in lines) == pytest.approx(100 * scores.max())


@pytest.mark.parametrize(("seconds", "name"), [(0, "seconds"), (179, "seconds"), (180, "minutes"), (1e5, "hours")])
def test_unit_of_a_clock(seconds: float, name: str) -> None:
    assert clock_unit(seconds)[1] == name


def test_best_so_far_ends_at_the_best(experiment: Experiment) -> None:
    line = drawn(best_so_far(progress(experiment))).axes[0].lines[0]
    assert np.asarray(line.get_ydata())[-1] == pytest.approx(100 * experiment.trials["score"].max())


def test_rung_panels(experiment: Experiment) -> None:
    figure = drawn(rung_against_end(rung_values(experiment), rung_table(experiment)))
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
    axes = drawn(scores_of_several(scores, table.set_index("experiment"))).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["finished", "by-hand"]
    assert "differ in epochs, data_fingerprint" in describe_comparison(table, differences([experiment, other]))
    assert "finished found 88.6 %" in describe_comparison(table, [])
    assert "nothing to compare" in describe_comparison(compare([experiment, experiment_of([])]), [])
    with pytest.raises(UserError, match="two of the experiments have this name"):
        compare([other, other])


def test_confirmations_side_by_side(confirmed: Experiment) -> None:
    other = replace(four_trials(), verdict=confirmed.verdict)
    table = compare([confirmed, other])
    assert confirmed.verdict and table["winner"].tolist() == [confirmed.verdict.winner] * 2
    assert table["established"].tolist() == [True, True]
    text = describe_comparison(table, [])
    assert "confirmed's winner" in text and "by-hand's winner" in text and "(3 seeds, established above" in text
    assert "The 95 % intervals of the first two overlap: the difference may be chance." in text
    scores = {one.name: one.completed["score"] for one in (confirmed, other)}
    axes = drawn(scores_of_several(scores, table.set_index("experiment"))).axes[0]
    shown = points(axes, "the winner with fresh seeds, 95 % interval")
    assert shown[:, 0] == pytest.approx(100 * table["confirmed"])


def test_an_estimate_and_its_interval_share_a_cell(confirmed: Experiment) -> None:
    section = ranking_section(confirmed)
    page = render("one", "", [replace(section, figures={})], {}, {})
    first = section.tables["ranking"].iloc[0]
    low, mean, high = (f"{100 * first[name]:.1f}" for name in ("confirmed_low", "confirmed_mean", "confirmed_high"))
    assert f"<td>{mean} % ({low} to {high} %)</td>" in page
    assert "confirmed low" not in page


def test_flags_are_kept_whole_and_the_rest_is_escaped() -> None:
    assert with_flags_whole("<b> --extend-space N") == "&lt;b&gt; <code>--extend-space</code> N"


def test_latex_has_the_first_rows_and_no_nan(experiment: Experiment) -> None:
    text = to_latex(rank_trials(experiment))
    assert text.count(r"\\") == 1 + LATEX_ROWS
    assert "is\\_seed\\_setting" in text
    assert "nan" not in text.lower()
