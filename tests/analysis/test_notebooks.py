"""The notebooks, executed top to bottom on a real small experiment, and as they are committed."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest

from analysis.best_model import CAPTIONS, BestModel
from analysis.notebooks.__main__ import FOLDER, execute, main
from analysis.trials import read_experiment
from cifar_core import checkpoint
from cifar_core.datasets import load_training_data
from cifar_core.errors import UserError
from cifar_core.train import Trainer
from tests.analysis.folders import PLAN, add_confirmation, add_range_test, make_experiment

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 800_000  # bytes: what a code host still shows


@pytest.fixture(scope="module")
def with_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment whose best model was trained for an epoch."""
    folder = tmp_path_factory.mktemp("experiments") / "with-model"
    data = load_training_data(PLAN.train)
    make_experiment(folder, fingerprint=data.fingerprint)
    add_confirmation(folder)
    add_range_test(folder)
    trainer = Trainer(PLAN.train, data)
    trainer.run_epoch()
    (folder / "best").mkdir()
    checkpoint.save(trainer, folder / "best/checkpoint.pt")
    return folder


def test_the_best_model_is_asked_about_the_validation_images(with_model: Path) -> None:
    model = BestModel(str(with_model), read_experiment(str(with_model)))
    assert len(model.data) == PLAN.train.val_size
    figures = model.figures()
    assert set(figures) == set(CAPTIONS)
    wrong = round((1 - model.predictions.accuracy) * len(model.data))
    assert f"{wrong:,} of 1,000 validation images are wrong" in model.describe()


def test_other_images_than_the_searchs_are_refused(with_model: Path) -> None:
    experiment = read_experiment(str(with_model))
    experiment.plan["data_fingerprint"] = "other"
    with pytest.raises(UserError, match="not those that the search saw"):
        BestModel(str(with_model), experiment)


def test_all_notebooks_run_top_to_bottom(with_model: Path, tmp_path: Path) -> None:
    """Over a finished search and one that has hardly begun.

    In one kernel, which takes seconds to start, with nothing left from one notebook to the next.
    """
    assert len(NOTEBOOKS) == 4
    make_experiment(tmp_path / "begun", epochs_at_most=5)
    together = nbformat.v4.new_notebook()
    for folder in (with_model, tmp_path / "begun"):
        for notebook in NOTEBOOKS:
            begin = f"%reset -f\n%env EXPERIMENT={folder}"
            together.cells += [nbformat.v4.new_code_cell(begin), *nbformat.read(notebook, 4).cells]
    for number, cell in enumerate(together.cells):
        cell.id = f"cell-{number}"
    execute(together, str(with_model))
    half = len(together.cells) // 2
    assert [pictures(cells) for cells in (together.cells[:half], together.cells[half:])] == [15, 3]
    told = without_pictures(together)
    assert "iopub" not in told and str(ROOT) not in told


def pictures(cells: Sequence[nbformat.NotebookNode]) -> int:
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_no_experiment_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path)])
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: not an experiment folder (no search.yaml in it)\n"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_has_outputs_and_tells_nothing_of_its_machine(notebook: Path) -> None:
    assert notebook.stat().st_size < LARGEST
    content = nbformat.read(notebook, 4)
    assert pictures(content.cells)
    assert not [word for word in ("/home/", "/root", "/tmp", "/work", "Traceback") if word in without_pictures(content)]


def without_pictures(notebook: nbformat.NotebookNode) -> str:
    """The notebook's text; a picture's letters spell anything, sooner or later."""
    copy = deepcopy(notebook)
    for cell in copy.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    return nbformat.writes(copy)
