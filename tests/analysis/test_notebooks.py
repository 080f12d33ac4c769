"""The notebooks, executed top to bottom on a real small experiment, and as they are committed."""

import os
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
from tests.analysis.folders import PLAN, make_experiment

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "analysis/notebooks").glob("*.ipynb"))
LARGEST = 800_000  # bytes: what a code host still shows


@pytest.fixture(scope="module")
def with_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment whose best model was trained for an epoch."""
    folder = tmp_path_factory.mktemp("experiments") / "with-model"
    data = load_training_data(PLAN.train)
    make_experiment(folder, fingerprint=data.fingerprint)
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


def test_all_notebooks_run_top_to_bottom(with_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one kernel, which takes seconds to start, with nothing left from one notebook to the next."""
    assert len(NOTEBOOKS) == 4
    monkeypatch.setenv("EXPERIMENT", str(with_model))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    together = nbformat.v4.new_notebook()
    for notebook in NOTEBOOKS:
        together.cells += [nbformat.v4.new_code_cell("%reset -f"), *nbformat.read(notebook, 4).cells]
    NotebookClient(together, timeout=120, kernel_name="python3").execute()
    outputs = [output for cell in together.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 13


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_has_outputs_and_tells_nothing_of_its_machine(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert '"image/png"' in text
    assert not [word for word in ("/home/", "/root", "/tmp", "/work", "Traceback") if word in text]
