"""While a search runs: its view in a terminal, optuna-dashboard and TensorBoard on it, MLflow and W&B that hear of it.

One search serves all tests. It is interrupted with Ctrl-C and resumed, with both dashboards open and asked.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray._common.utils import get_default_ray_temp_dir

from tests.end_to_end.tiny_search import TINY, run_search, search_command
from tests.terminal import Terminal
from tests.viewer import Viewer
from tests.wandb_file import points, read_records
from tune_experiments.confirmation import ConfirmLedger
from tune_experiments.ledger import Ledger

KEY = "deadbeef" * 5  # as long as a W&B key
LOGGERS = ["--mlflow", "--wandb", "a-project"]
SLOWER = """
    --num-samples 2 --epochs 6 --train-size 3000 --max-concurrent 1 --scheduler none --max-lr-range 0.01 0.1
""".split()  # noqa: SIM905  # as one would type it
STATES = {"completed": "Complete", "stopped": "Pruned", "diverged": "Pruned"}


@dataclass
class Watched:
    """What was seen of the search.

    Attributes:
        screens: of the terminal, while it ran.
        driver: the process id of the first part of the search.
        in_progress, finished: what each dashboard had, by its name.
    """

    folder: Path
    driver: int
    screens: list[list[str]] = field(default_factory=list)
    last_screen: str = ""
    exit_codes: list[int] = field(default_factory=list)
    output: str = ""
    in_progress: dict[str, Any] = field(default_factory=dict)
    finished: dict[str, Any] = field(default_factory=dict)
    listens_on: dict[str, set[str]] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    storage = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_MODE", "offline")
        environment.setenv("WANDB_API_KEY", KEY)
        terminal = Terminal(search_command(storage, "--name", "tiny", *TINY, *SLOWER, *LOGGERS), storage, 100, 40)
        seen = Watched(storage / "tiny", terminal.process.pid)
        try:
            watch(terminal, seen)
        finally:
            terminal.close()
        yield seen


def watch(terminal: Terminal, seen: Watched) -> None:
    """The search up to its second trial in the terminal, the rest of it resumed; both with the dashboards open."""
    study, curves = seen.folder / "optuna.db", seen.folder / "tensorboard"
    terminal.read_until(study.exists, 300)
    with dashboards(study, curves) as viewers:

        def second_trial_runs() -> bool:
            keep_screen(terminal, seen)
            return epochs_by_trial(seen.folder).get("00001", 0) >= 2 and all(map(has_a_trial, viewers.values()))

        terminal.read_until(second_trial_runs, 300)
        for name, viewer in viewers.items():
            seen.listens_on[name] = viewer.listens_on()
            seen.in_progress[name] = trials_in(viewer.ask())
        terminal.press_ctrl_c()
        seen.exit_codes.append(terminal.wait(400))
        seen.last_screen = terminal.text
        done = run_search(seen.folder.parent, "--resume", "tiny", *LOGGERS)
        seen.exit_codes.append(done.returncode)
        seen.output = done.stdout
        for name, viewer in viewers.items():  # they look for news every second or more
            seen.finished[name] = trials_in(viewer.wait_until(lambda answer: len(trials_in(answer)) == 2))
            seen.answers[name] = len(viewer.answers)


@contextmanager
def dashboards(study: Path, curves: Path) -> Iterator[dict[str, Viewer]]:
    viewers = {"TensorBoard": Viewer("/data/runs", "tensorboard", "--logdir", str(curves), "--reload_interval", "1")}
    if find_spec("optuna_dashboard"):
        viewers["Optuna"] = Viewer.of_study(study)
    try:
        yield viewers
    finally:
        for viewer in viewers.values():
            viewer.close()


def trials_in(answer: Any) -> Any:
    return answer["trials"] if isinstance(answer, dict) else answer  # TensorBoard's is a list of names


def has_a_trial(viewer: Viewer) -> bool:
    return any(trials_in(answer) for answer in viewer.answers[-1:])


def epochs_by_trial(folder: Path) -> dict[str, int]:
    """Trained so far, as the ledger has them."""
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True) if ledger.exists() else []
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return dict(Counter(event["trial_id"] for event in events if event["event"] == "epoch"))


def keep_screen(terminal: Terminal, seen: Watched) -> None:
    if not seen.screens or seen.screens[-1] != terminal.lines:
        seen.screens.append(terminal.lines)


def test_the_terminal_shows_one_view_and_a_clean_end(watched: Watched) -> None:
    assert watched.exit_codes == [130, 0]
    assert any("1 running (1 of 1 slots busy), 1 completed" in screen for screen in watched.screens)
    running = [line for screen in watched.screens for line in screen if line.startswith("00001  epoch ")]
    assert any("/6  val " in line and "  max_lr " in line and "  peak_epoch " in line for line in running)
    for screen in watched.screens:
        assert sum(line.startswith(("0/2 trials", "1/2 trials")) for line in screen) <= 1
    last = watched.last_screen.splitlines()
    view = next(number for number, line in enumerate(last) if line.startswith("1/2 trials"))
    assert last[view + 1] == "1 completed" and last[view + 2].startswith("best ")
    assert not any(line.startswith("00001  ") for line in last)
    assert "--resume" in watched.last_screen and "Traceback" not in watched.last_screen


def test_optuna_dashboard_follows_the_search(watched: Watched) -> None:
    if not find_spec("optuna_dashboard"):
        pytest.skip("optuna-dashboard is not installed")
    (first,) = watched.in_progress["Optuna"]
    assert (first["state"], first["number"]) == ("Complete", 0)
    trials = pd.read_parquet(watched.folder / "trials.parquet").set_index("trial_id")
    epochs = pd.read_parquet(watched.folder / "epochs.parquet").set_index("trial_id")
    shown = {attribute(trial, "trial_id"): trial for trial in watched.finished["Optuna"]}
    assert sorted(shown) == ["00000", "00001"]
    for trial_id, trial in shown.items():
        assert trial["state"] == STATES[trials.loc[trial_id, "state"]]
        values = [point["value"] for point in trial["intermediate_values"]]
        assert values == epochs.loc[[trial_id], "val_accuracy"].tolist()


def attribute(trial: dict[str, Any], name: str) -> Any:
    return next(one["value"] for one in trial["user_attrs"] if one["key"] == name).strip('"')


def test_tensorboard_follows_the_trials(watched: Watched) -> None:
    assert sorted(watched.in_progress["TensorBoard"]) == ["00000", "00001"]
    assert sorted(watched.finished["TensorBoard"]) == ["00000", "00001"]


def test_the_dashboards_listen_on_the_loopback_and_were_asked_all_the_time(watched: Watched) -> None:
    assert all(addresses == {"127.0.0.1"} for addresses in watched.listens_on.values())
    assert min(watched.answers.values()) > 20
    assert "locked" not in watched.output + watched.last_screen


def test_mlflow_has_a_run_for_each_trial_and_each_epoch_once(watched: Watched) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{watched.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    trials = pd.read_parquet(watched.folder / "trials.parquet").set_index("trial_id")
    epochs = pd.read_parquet(watched.folder / "epochs.parquet").set_index("trial_id")
    assert sorted(runs) == sorted(trials.index)
    for trial_id, run in runs.items():
        assert run.info.status == "FINISHED"
        params = {name: float(value) for name, value in run.data.params.items()}
        assert params == {**trials.loc[trial_id, ["max_lr", "l1_factor", "peak_epoch"]], "seed": 3}
        for metric in ("val_accuracy", "train_loss", "lr"):
            points = client.get_metric_history(run.info.run_id, metric)
            assert [(point.step, point.value) for point in points] == list(
                epochs.loc[[trial_id], ["epoch", metric]].itertuples(index=False, name=None)
            )


def test_mlflow_gets_a_finished_search_and_its_confirmation_afterwards(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    shutil.copytree(finished[0], tmp_path / "tiny")
    done = run_search(tmp_path, "--resume", "tiny", "--mlflow", "--no-dashboard")
    assert done.returncode == 0 and "nothing more is logged" not in done.stdout, done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path}/tiny/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    trials, confirmation = (
        Ledger(tmp_path / "tiny/ledger.jsonl").trials,
        ConfirmLedger(tmp_path / "tiny/confirm.jsonl").trials,
    )
    assert len(confirmation) >= 2 and sorted(runs) == sorted([*trials, *confirmation])
    assert {name: run.data.metrics["epoch"] for name, run in runs.items()} == {
        name: len(trial.epochs) for name, trial in (trials | confirmation).items()
    }


def test_wandb_has_a_run_for_each_trial_and_all_of_its_epochs(watched: Watched) -> None:
    """Offline, a resumed trial is written as a whole once more, under the same id: `wandb sync` makes it one."""
    pytest.importorskip("wandb")
    trials = pd.read_parquet(watched.folder / "trials.parquet").set_index("trial_id")
    epochs = pd.read_parquet(watched.folder / "epochs.parquet").set_index("trial_id")
    runs: dict[str, list[Any]] = {}
    for file in sorted((watched.folder / "wandb").glob("offline-run-*/*.wandb")):
        records = list(read_records(file))
        run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
        assert (run.project, run.run_group) == ("a-project", "tiny")
        assert run.run_id.endswith(f"-{run.display_name}")
        config = {update.key: json.loads(update.value_json) for update in run.config.update}
        expected = {**trials.loc[run.display_name, ["max_lr", "l1_factor", "peak_epoch"]], "seed": 3}
        assert {name: config[name] for name in expected} == expected
        runs.setdefault(run.display_name, []).append(points(records))
    assert {trial_id: len(files) for trial_id, files in runs.items()} == {"00000": 1, "00001": 2}
    for trial_id, files in runs.items():
        values = list(epochs.loc[[trial_id], ["epoch", "val_accuracy"]].itertuples(index=False, name=None))
        assert files[-1] == values
        assert all(points == values[: len(points)] for points in files)


def test_no_secret_is_in_the_experiment_folder_nor_in_what_ray_writes(watched: Watched) -> None:
    (session,) = Path(get_default_ray_temp_dir()).glob(f"session_*_{watched.driver}")
    files = [file for folder in (watched.folder, session) for file in folder.rglob("*") if file.is_file()]
    assert {"tuner.pkl", "search.yaml", "raylet.out", "runtime_env_agent.log"} <= {file.name for file in files}
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []
