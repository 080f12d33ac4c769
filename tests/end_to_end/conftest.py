from pathlib import Path

import pytest

from tests.end_to_end.tiny_search import CONFIRM, TINY, run_search


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished and confirmed search, one trial at a time, and what it printed."""
    storage = tmp_path_factory.mktemp("experiments")
    done = run_search(storage, "--name", "tiny", "--max-concurrent", "1", *TINY, *CONFIRM)
    assert done.returncode == 0, done.stdout
    return storage / "tiny", done.stdout
