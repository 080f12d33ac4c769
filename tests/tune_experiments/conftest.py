import pytest


@pytest.fixture
def no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of events that no power cut threatens."""
    monkeypatch.setattr("os.fsync", lambda fd: None)
