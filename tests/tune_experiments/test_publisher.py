import time
from pathlib import Path

from tune_experiments.lease import Lease
from tune_experiments.publisher import Publisher
from tune_experiments.remote_folder import RemoteFolder


def test_what_loggers_write_follows_only_at_the_end(tmp_path: Path) -> None:
    here, remote = tmp_path / "here", RemoteFolder.at(f"file://{tmp_path}/far")
    names = ["ledger.jsonl", "mlflow.db", "wandb/run/run.wandb"]
    for name in names:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    (here / "wandb/run/run.wandb.lock").touch()
    with Lease(remote) as lease, Publisher(here, remote, lease):
        deadline = time.monotonic() + 60
        while remote.size(names[0]) is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(0.1)
        assert [remote.read(name) for name in names] == [b"ledger.jsonl", None, None]
    assert [remote.read(name) for name in names] == [name.encode() for name in names]
    assert remote.child("wandb/run").names() == ["run.wandb"]
