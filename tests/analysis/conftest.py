from pathlib import Path

import pytest

from analysis.trials import Experiment, read_experiment
from tests.analysis.folders import make_experiment


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search of 80 trials over two slots."""
    folder = tmp_path_factory.mktemp("experiments") / "finished"
    make_experiment(folder)
    return folder


@pytest.fixture(scope="session")
def experiment(finished: Path) -> Experiment:
    return read_experiment(str(finished))
