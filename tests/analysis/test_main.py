import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from tests.analysis.browser import browser, needs_browser
from tests.analysis.folders import PLAN, add_confirmation, add_range_test, make_experiment

FIGURES = {
    "best_trials", "confirmation", "slices", "score_map", "parallel", "range_test", "curves", "best_so_far", "rungs",
    "epochs", "slots",
}  # fmt: skip
TABLES = {"ranking", "confirmation", "confirmation_runs", "top_settings", "progress", "rungs", "cost", "slots"}


@pytest.fixture(scope="module")
def reported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished experiment with its report."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("reported") / "search & <co>"))
    add_confirmation(folder)
    add_range_test(folder)
    assert main([str(folder), "--no-best-model"]) == 0
    return folder


def test_everything_is_written_beside_the_search(reported: Path) -> None:
    assert {file.stem for file in (reported / "figures").glob("*.png")} == FIGURES
    for kind in ("csv", "parquet", "tex"):
        assert {file.stem for file in (reported / "tables").glob(f"*.{kind}")} == TABLES
    ranking = pd.read_parquet(reported / "tables/ranking.parquet")
    board = pd.read_csv(reported / "leaderboard.csv", dtype={"trial_id": str})
    assert board["trial_id"].tolist() == ranking["trial_id"].tolist()
    settings = json.loads((reported / "confirm.json").read_text())["settings"]
    assert set(board.loc[board["confirmed_mean"].notna(), "trial_id"]) == {one["trial_id"] for one in settings}
    assert pd.read_csv(reported / "tables/ranking.csv", dtype={"trial_id": str}).shape == ranking.shape
    assert "\\toprule" in (reported / "tables/ranking.tex").read_text()


def test_the_report_needs_nothing_but_itself(reported: Path) -> None:
    page = (reported / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "<script" not in page
    assert "search &amp; &lt;co&gt;" in page
    assert page.count("<img") == len(FIGURES)
    assert all(question in page for question in ("Which trials are best?", "What did it cost?"))


@needs_browser
@pytest.mark.parametrize(("width", "height", "mobile"), [(1280, 900, False), (390, 844, True)])
def test_a_real_browser_shows_it(reported: Path, width: int, height: int, mobile: bool) -> None:
    with browser(width, height, mobile) as window:
        window.open(reported / "report.html")
        assert window.run("return document.title") == "search & <co>"
        complete = "return [...document.images].every(image => image.complete && image.naturalWidth > 100)"
        assert window.run("return document.images.length") == len(FIGURES)
        assert window.run(complete)
        assert window.run("return document.documentElement.scrollWidth <= innerWidth")
        assert window.errors() == []
        asked = [url for url in window.requested() if not url.startswith("data:")]
        assert len(asked) == 1 and asked[0].endswith("/report.html")
        assert window.print_pages().startswith(b"%PDF")


@pytest.mark.parametrize(("epochs", "line"), [(0, "no trial has started"), (7, "No trial has completed yet")])
def test_a_search_that_has_hardly_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], epochs: int, line: str
) -> None:
    make_experiment(tmp_path / "begun", epochs_at_most=epochs)
    assert main([str(tmp_path / "begun"), "--output", str(tmp_path / "out")]) == 0
    assert line in capsys.readouterr().out
    page = (tmp_path / "out/report.html").read_text()
    assert "there is no best/checkpoint.pt yet" in page
    assert "the search is running, or was interrupted" in page


def test_several_experiments_side_by_side(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_experiment(tmp_path / "other", epochs_at_most=60)
    add_confirmation(tmp_path / "other", top=1)
    monkeypatch.chdir(tmp_path)
    assert main([str(finished), str(tmp_path / "other")]) == 0
    table = pd.read_csv("comparison/tables/comparison.csv")
    assert table["experiment"].tolist() == ["finished", "other"]
    assert table["epochs"][1] == 60
    assert len(list(Path("comparison/figures").iterdir())) == 2
    assert table["winner"].isna().tolist() == [True, False]
    assert table["confirm_seeds"][1] == 3
    page = Path("comparison/report.html").read_text()
    assert "finished · other" in page
    assert "With fresh seeds other&#39;s winner" in page and "The others were not confirmed." in page


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "the following arguments are required: EXPERIMENT"),
        (["nowhere"], "nowhere: no such folder"),
        (["."], ".: not an experiment folder (no search.yaml in it)"),
        (["s3x://bucket/name"], "cannot be used as storage"),
        (["EXPERIMENT", "EXPERIMENT"], "finished: two of the experiments have this name"),
        (["EXPERIMENT", "--best-modle"], "did you mean --best-model?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main([argument.replace("EXPERIMENT", str(finished)) for argument in arguments])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert line in shown
    assert shown.count("\n") == 1


def test_an_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_experiment(tmp_path / "begun", epochs_at_most=0)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "begun"), "--no-best-model", "--output", str(tmp_path / "file")])
    assert re.fullmatch(r"error: .*/file: cannot be written \(.*\)\n", capsys.readouterr().err)


def test_three_trials_are_enough_for_a_page(tmp_path: Path) -> None:
    make_experiment(tmp_path / "three", replace(PLAN, search=replace(PLAN.search, num_samples=3)))
    assert main([str(tmp_path / "three"), "--no-best-model"]) == 0
    assert "Importance cannot be said" in (tmp_path / "three/report.html").read_text()
