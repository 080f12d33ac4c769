"""An experiment below s3://, on a real server of that protocol: read, analysed, and its report written there."""

from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pandas.testing import assert_frame_equal

from analysis.__main__ import main
from analysis.trials import read_experiment
from tests.analysis.folders import PLAN, add_confirmation, add_range_test, make_experiment
from tests.end_to_end.test_storage import objects, server, uri, url

__all__ = ["server"]  # a fixture


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    make_experiment(folder, PLAN, epochs_at_most=60)
    add_range_test(folder)
    add_confirmation(folder, top=1)
    return folder


def put(server: ThreadedMotoServer, folder: Path) -> str:
    """The folder, copied into the bucket; its URI."""
    client = boto3.client("s3", endpoint_url=url(server))
    for file in folder.iterdir():
        if file.is_file():
            client.upload_file(str(file), "bucket", f"searches/tiny/{file.name}")
    storage, query = uri(server).split("?")
    return f"{storage}/{folder.name}?{query}"


def test_a_report_of_an_experiment_below_s3(
    server: ThreadedMotoServer, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    location = put(server, tiny)
    here, there = read_experiment(str(tiny)), read_experiment(location)
    assert there.name == "tiny"
    assert_frame_equal(there.trials, here.trials)
    assert_frame_equal(there.epochs, here.epochs)
    assert there.verdict == here.verdict and there.verdict is not None
    assert there.range_test and there.space == here.space
    assert main([location]) == 0
    after = objects(server)
    assert b"Does it hold with fresh seeds?" in after["report.html"]
    assert b"there is no best/checkpoint.pt yet" in after["report.html"]
    assert {"leaderboard.csv", "figures/confirmation.png", "tables/ranking.parquet"} <= set(after)
    assert after["ledger.jsonl"] == (tiny / "ledger.jsonl").read_bytes()
    assert "Written: s3://bucket/searches/tiny/report.html" in capsys.readouterr().out


def test_what_is_wrong_below_s3_is_one_line(
    server: ThreadedMotoServer, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny / "confirm.json").write_text("{")
    location = put(server, tiny)
    for there, line in (
        (location, "confirm.json is damaged"),
        (location.replace("tiny", "other"), "not an experiment"),
    ):
        with pytest.raises(SystemExit) as caught:
            main([there])
        shown = capsys.readouterr().err
        assert caught.value.code == 2
        assert line in shown and shown.count("\n") == 1
