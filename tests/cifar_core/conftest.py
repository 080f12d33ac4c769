from pathlib import Path

import pytest
import torch

from tests.cifar_core.tiny import TINY


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one complete run of TINY."""
    from cifar_core.run import run

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("finished") / "run"
    run(TINY, root, export=True)
    return root
