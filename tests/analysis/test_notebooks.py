"""The notebooks, executed top to bottom on a real small experiment, and as they are committed."""

import os
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from analysis.best_model import CAPTIONS, BestModel
from analysis.trials import read_experiment
from cifar_core import checkpoint
from cifar_core.datasets import load_training_data
from cifar_core.errors import UserError
from cifar_core.train import Trainer
from tests.analysis.folders import PLAN, add_confirmation, add_range_test, make_experiment

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "analysis/notebooks").glob("*.ipynb"))
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


def test_all_notebooks_run_top_to_bottom(with_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a finished search and one that has hardly begun.

    In one kernel, which takes seconds to start, with nothing left from one notebook to the next.
    """
    assert len(NOTEBOOKS) == 4
    make_experiment(tmp_path / "begun", epochs_at_most=5)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    together = nbformat.v4.new_notebook()
    for folder in (with_model, tmp_path / "begun"):
        for notebook in NOTEBOOKS:
            begin = f"%reset -f\n%env EXPERIMENT={folder}"
            together.cells += [nbformat.v4.new_code_cell(begin), *nbformat.read(notebook, 4).cells]
    for number, cell in enumerate(together.cells):
        cell.id = f"cell-{number}"
    NotebookClient(together, timeout=120, kernel_name="python3").execute()
    half = len(together.cells) // 2
    assert [pictures(cells) for cells in (together.cells[:half], together.cells[half:])] == [15, 3]


def pictures(cells: Sequence[nbformat.NotebookNode]) -> int:
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_has_outputs_and_tells_nothing_of_its_machine(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert '"image/png"' in text
    assert not [word for word in ("/home/", "/root", "/tmp", "/work", "Traceback") if word in text]
