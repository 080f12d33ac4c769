import json
from pathlib import Path

import numpy as np
import pytest

from analysis.range_test import describe_range, read_range_test
from analysis.ranking import describe_top, top_settings
from analysis.trials import read_experiment
from cifar_core.errors import UserError
from cifar_core.lr_range_test import RangeTest
from tests.analysis.folders import add_range_test, make_experiment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiments") / "with-range"
    make_experiment(folder)
    add_range_test(folder)
    return folder


def test_the_curves_are_those_of_the_range_test(folder: Path) -> None:
    text = (folder / "lr_range_test.json").read_text()
    found, written = read_range_test(text), RangeTest.from_json(text)
    assert (found.max_lr_range, found.edge) == (written.suggestion.max_lr_range, written.suggestion.edge)
    curves = [curve for _, curve in found.curves.groupby("sweep", sort=False)]
    assert [curve["sweep"].iloc[0] for curve in curves] == [f"seed {seed}, l1_factor 0.0005" for seed in range(3)]
    for curve, sweep in zip(curves, written.curves, strict=True):
        assert curve["lr"].tolist() == sweep.lr.tolist()
        assert np.abs(curve["loss"] - sweep.smoothed).max() < 0.1  # of 2.3


def test_a_loss_that_is_not_finite_is_drawn_at_the_cap() -> None:
    lr = np.geomspace(0.01, 1, 40).tolist()
    curve = {"seed": 0, "l1_factor": 0.1, "lr": lr, "loss": [2.0] * 20 + [None] * 20}
    suggestion = {"max_lr_range": [0.01, 0.1], "low": None, "edge": None, "refusal": "why"}
    found = read_range_test(json.dumps({"suggestion": suggestion, "curves": [curve]}))
    assert found.curves["loss"].iloc[[0, -1]].tolist() == pytest.approx([2.0, 4.0])


@pytest.mark.parametrize("text", ["{", "[]", '{"suggestion": {"max_lr_range": [1, 2]}}', '{"curves": []}'])
def test_a_damaged_file_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"lr_range_test.json is damaged") as caught:
        read_range_test(text)
    assert "\n" not in str(caught.value)


def test_where_the_best_lie_and_how_to_go_on_at_an_edge(folder: Path) -> None:
    experiment = read_experiment(str(folder))
    top = top_settings(experiment).set_index("parameter")
    top.loc["max_lr", ["best", "low", "high", "edge"]] = [0.2, 0.02, 0.2, "high"]
    assert experiment.range_test
    test = experiment.range_test._replace(max_lr_range=(0.002, 0.2), edge=0.5)
    text = describe_range(test, top.reset_index())
    assert "suggested max_lr 0.002 to 0.2. The best 10 % lie from 50 % to 100 %, the best one at 100 %," in text
    assert "the loss first rises at 2.5 times the best one's max_lr. Its max_lr lies at the high end of" in text
    line = describe_top(experiment, top.reset_index())
    assert "--resume with-range --extend-space --num-samples N searches it (N above 80)" in line
