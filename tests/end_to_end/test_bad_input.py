"""Whatever is wrong with the input: exit code 2, one line that says what, and nothing started or left behind."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray
import torch
import yaml
from PIL import Image

from cifar_core.__main__ import main as train
from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.datasets import load_training_data
from cifar_core.run_folder import RunFolder
from tests.end_to_end.tiny_search import ROOT
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.experiment import Experiment
from tune_experiments.search import main as search

PLAN = Plan(
    TrainConfig(dataset="synthetic", train_size=100, val_size=50, epochs=4, device="cpu"),
    SearchConfig(num_samples=3, gpus_per_trial=0),
    RangeTestConfig(),
)
TINY_RUN = TrainConfig(dataset="synthetic", train_size=20, val_size=10, width=1 / 64, device="cpu")

LOCKS: list[object] = []  # held until the process ends


class Case(NamedTuple):
    """Arguments, in which `$` is the test's folder; words of the line; what to put into the folder before."""

    arguments: str | list[str]
    words: str
    prepare: Callable[[Path], object] = lambda folder: None


def given(case: Case, folder: Path) -> list[str]:
    if "torch finds none here" in case.words and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        pytest.skip("there is a GPU")
    arguments = case.arguments.split() if isinstance(case.arguments, str) else case.arguments
    case.prepare(folder)
    return [argument.replace("$", str(folder)) for argument in arguments]


def file(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def yaml_case(content: str | bytes, words: str, flags: str = "") -> Case:
    return Case(f"--preset $/mine.yaml {flags}", words, file("mine.yaml", content))


def experiment(folder: Path, **changes: object) -> Experiment:
    """The folder `experiments/old` of a search, with changes in its search.yaml."""
    old = Experiment(folder / "experiments/old")
    old.make()
    old.write_plan(PLAN, load_training_data(PLAN.train).fingerprint)
    old.plan_file.write_text(yaml.safe_dump(yaml.safe_load(old.plan_file.read_text()) | changes))
    return old


def cut(file: Path, share: float = 0.5) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])


def images(folder: Path, classes: str = "ant bee", count: int = 20) -> Path:
    """An image folder `images`, and its training part."""
    rng = np.random.default_rng(0)
    for half in ("train", "test"):
        for name in classes.split():
            (folder / "images" / half / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "images" / half / name / f"{index}.jpg")
    return folder / "images/train"


def images_case(words: str, prepare: Callable[[Path], object], flags: str = "--val-size 4") -> Case:
    return Case(f"--dataset images --data-dir $/images {flags}", words, prepare)


def interrupted_run(prepare: Callable[[Path], object]) -> Case:
    """The folder `runs` of a run that was interrupted, with something else for its checkpoint."""

    def start(folder: Path) -> None:
        RunFolder(folder / "runs").create(TINY_RUN)
        prepare(folder)

    return Case("--config $/runs/config.yaml --output $/runs", "runs/checkpoint.pt: not a whole checkpoint", start)


class MakesAFolder:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder / "exploded"),)


def without(experiment: Experiment, key: str) -> None:
    """Take a key out of the experiment's search.yaml."""
    content = yaml.safe_load(experiment.plan_file.read_text())
    del content[key]
    experiment.plan_file.write_text(yaml.safe_dump(content))


def no_cifar10(folder: Path) -> None:
    """An archive of the right name and another MD5."""
    (folder / "data").mkdir()
    (folder / "data/cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b not the archive")


def dangerous_cifar10(folder: Path) -> None:
    batches = folder / "data/cifar-10-batches-py"
    batches.mkdir(parents=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (batches / name).write_bytes(pickle.dumps(MakesAFolder(folder)))


SEARCH_CASES = {
    # Flags.
    "unknown flag": Case("--epoch 3", "unknown argument --epoch; did you mean --epochs?; see --help"),
    "flag far from any": Case("--xyzzy", "unknown argument --xyzzy; see --help"),
    "flag of what is searched": Case("--max-lr 0.1", "unknown argument --max-lr; did you mean --max-lr-range?"),
    "positional argument": Case("quick", "unknown argument quick; see --help"),
    "flag without its value": Case("--epochs", "--epochs: expected one argument"),
    "one bound of two": Case("--max-lr-range 0.1", "--max-lr-range: expected 2 arguments"),
    "more CPUs than there are": Case("--cpus-per-trial 9999", "cpus_per_trial is 9999, but there are "),
    "folder that SQLite cannot name": Case("--storage $/100%", "a folder with '?' or '%' in its path cannot be used"),
    "value of what is searched": yaml_case("train:\n  max_lr: 0.1\n", "max_lr is searched; max_lr_range in section"),
    "text for a number": Case("--width wide", "command line: width is 'wide'; it must be a number"),
    "fraction of an epoch": Case("--epochs 2.5", "command line: epochs is '2.5'; it must be a whole number"),
    "not a number": Case("--weight-decay nan", "weight_decay is nan; it must be at least 0"),
    "infinity": Case("--div-factor inf", "div_factor is inf; it must be at least 1"),
    "no epochs": Case("--epochs 0", "command line: epochs is 0; it must be at least 1"),
    "negative seed": Case("--seed -1", "seed is -1; it must be at least 0"),
    "seed beyond any generator": Case(["--seed", "9" * 400], "it must be at least 0 and at most 4294967295"),
    "no trials": Case("--num-samples 0", "num_samples is 0; it must be at least 1"),
    "batches of one": Case("--batch-size 1", "batch_size is 1; it must be at least 2"),
    "width beyond reason": Case("--width 17", "width is 17; it must be above 0 and at most 16"),
    "unknown scheduler": Case("--scheduler pbt", "scheduler is pbt; it must be one of asha, stock-asha, none"),
    "unknown searcher": Case("--searcher grid", "searcher is grid; it must be one of optuna, random"),
    "unknown data set": Case("--dataset mnist", "dataset is mnist; it must be one of cifar10, images, synthetic"),
    "line breaks in a value": Case(["--dataset", "a\nb\r\nc"], "dataset is a b c; it must be one of"),
    "range upside down": Case(
        "--max-lr-range 0.5 0.1", "max_lr_range is 0.5 to 0.1; the first number must be the smaller"
    ),
    "range of nothing": Case(
        "--l1-factor-range 1 1", "l1_factor_range is 1 to 1; the first number must be the smaller"
    ),
    "zero in a logarithm": Case("--l1-factor-range 0 1", "l1_factor_range is 0; it must be above 0"),
    "peaks past the end": Case("--peak-epoch-range 1 9", "peak_epoch_range ends above epochs (8)"),
    "half a peak": Case("--peak-epoch-range 1 2.5", "peak_epoch_range is '2.5'; it must be a whole number"),
    "a single fresh seed": Case("--confirm-seeds 1", "confirm_seeds is 1; it must be at least 2"),
    "no seeds after this one": Case(
        "--seed 4294967295", "seed is 4294967295; it must be at most 4294967292: confirm_seeds more follow it"
    ),
    "factor that keeps all": Case("--reduction-factor 1", "reduction_factor is 1; it must be at least 1.1"),
    "a GPU and a half": Case("--gpus-per-trial 1.5", "gpus_per_trial is 1.5; above 1 it must be a whole number"),
    "momenta upside down": Case("--momentum-low 0.99", "momentum_low (0.99) is above momentum_high (0.95)"),
    "sweep upside down": Case("--range-test-lowest-lr 99", "lowest_lr is 99; it must be below highest_lr"),
    "selecting on the test set": Case("--val-size 0", "val_size is 0; a search selects on validation images and never"),
    # Presets and YAML.
    "unknown preset": Case("--preset quik", "unknown preset quik; did you mean quick?; there are cifar10"),
    "missing file": Case("--preset $/mine.yaml", "mine.yaml: cannot be read (No such file or directory)"),
    "folder for a file": Case(
        "--preset $/f.yaml", "f.yaml: cannot be read (Is a directory)", lambda f: (f / "f.yaml").mkdir()
    ),
    "empty file": yaml_case("", "mine.yaml: expected 'key: value' lines, found NoneType"),
    "a list": yaml_case("- train\n- search\n", "mine.yaml: expected 'key: value' lines, found list"),
    "broken YAML": yaml_case("train: {epochs: [1,\nsearch", "mine.yaml: not valid YAML"),
    "bytes": yaml_case(b"\x89PNG\r\n\x1a\n\x00", "mine.yaml: not valid YAML"),
    "code in YAML": yaml_case("!!python/object/apply:os.mkdir [exploded]", "mine.yaml: not valid YAML"),
    "unknown section": yaml_case("trian: {epochs: 3}", "mine.yaml: unknown section trian; did you mean train?"),
    "keys without a section": yaml_case("epochs: 3", "mine.yaml: unknown section epochs"),
    "section of text": yaml_case("train: fast", "mine.yaml: section train must hold 'key: value' lines"),
    "unknown key": yaml_case("train: {epoch: 3}", "mine.yaml: unknown key epoch; did you mean epochs?"),
    "key of another section": yaml_case("train: {num_samples: 3}", "mine.yaml: unknown key num_samples"),
    "truth for a number": yaml_case("train: {epochs: yes}", "mine.yaml: epochs is True; it must be int"),
    "nothing for a number": yaml_case("train: {epochs: }", "mine.yaml: epochs is None; it must be a whole number"),
    "list for a number": yaml_case("train: {epochs: [3]}", "mine.yaml: epochs is [3]; it must be a whole number"),
    "error in the file, though overridden": yaml_case("train: {epochs: 0}", "mine.yaml: epochs is 0", "--epochs 3"),
    "text over lines": yaml_case("train: {device: 'a\n\n\n  b'}", "mine.yaml: device is a"),
    # Names and folders.
    "path for a name": Case("--name a/b", "name is 'a/b'; it must be letters, digits, '.', '_' and '-'"),
    "name that goes up": Case("--name ..", "name is '..'; it must be letters"),
    "empty name": Case(["--name", ""], "name is ''; it must be letters"),
    "name beyond the file system": Case(["--name", "a" * 300], "cannot be used (File name too long)"),
    "name that is taken": Case("--name old", "experiments/old: this name is taken; choose another --name", experiment),
    "file for a storage": Case(
        "--storage $/file --name new", "file/new: cannot be created (Not a directory)", file("file", "")
    ),
    "URI of no known kind": Case("--storage nosuch://x/y", "nosuch://x/y: cannot be used as storage (Unrecognized"),
    "URI without a bucket": Case("--storage s3://", "s3://: cannot be used as storage (it names no bucket)"),
    "URI that cannot be written": Case(
        "--storage file://$/file/x --name new --confirm-top 0", "file/x/new: cannot be written (", file("file", "")
    ),
    # Clusters.
    "no address": Case("--address nonsense", "address is nonsense: no Ray cluster there (Invalid address format"),
    "address where nothing answers": Case(
        "--address 127.0.0.1:9",
        "address is 127.0.0.1:9: no Ray cluster there (",
    ),
    # What listens where.
    "dashboard elsewhere": Case(
        "--dashboard-host 203.0.113.1", "dashboard_host is 203.0.113.1: not an address of this machine ("
    ),
    "dashboard of another's cluster": Case(
        "--dashboard-host 0.0.0.0 --address auto", "--dashboard-host goes without --address and --no-dashboard"
    ),
    "no dashboard, but open": Case(
        "--dashboard-host 0.0.0.0 --no-dashboard", "--dashboard-host goes without --address and --no-dashboard"
    ),
    # Resuming.
    "nothing to resume": Case("--resume nothing", "experiments/nothing: no such experiment to resume"),
    "empty name to resume": Case(["--resume", ""], "not an experiment folder (no search.yaml in it)", experiment),
    "foreign folder": Case("--resume $/experiments", "not an experiment folder (no search.yaml in it)", experiment),
    "second of two loggers": Case(
        "--train-size 100 --val-size 50 --mlflow --wandb my/project", "wandb: Invalid project name 'my/project'"
    ),
    "plan that was never written": Case(
        "--resume old",
        "not an experiment folder (no search.yaml in it)",
        lambda f: experiment(f).plan_file.rename(f / "experiments/old/search.yaml.part"),
    ),
    "cut search.yaml": Case("--resume old", "old/search.yaml: ", lambda f: cut(experiment(f).plan_file, 0.33)),
    "empty search.yaml": Case(
        "--resume old", "search.yaml: expected 'key: value'", lambda f: cut(experiment(f).plan_file, 0)
    ),
    "newer format": Case(
        "--resume old", "written by another version (format 3, not 2)", lambda f: experiment(f, format=3)
    ),
    "key of a newer version": Case(
        "--resume old",
        "search.yaml: unknown key patience",
        lambda f: experiment(f, range_test={"patience": 3}),
    ),
    "section that is missing": Case(
        "--resume old", "search.yaml: not whole (range_test missing)", lambda f: without(experiment(f), "range_test")
    ),
    "fingerprint that is missing": Case(
        "--resume old", "not whole (data_fingerprint missing)", lambda f: without(experiment(f), "data_fingerprint")
    ),
    "ledger of something else": Case(
        "--resume old",
        "ledger.jsonl: not a ledger of this version",
        lambda f: experiment(f).ledger.write_text("hello\n"),
    ),
    "ledger of a newer version": Case(
        "--resume old",
        "ledger.jsonl: not a ledger of this version (KeyError: 'trial_id')",
        lambda f: experiment(f).ledger.write_text('{"event": "promoted", "time": 1}\n'),
    ),
    "section gone wrong": Case("--resume old", "section train must hold", lambda f: experiment(f, train=None)),
    "another preset": Case("--resume old --preset quick", "--preset does not go with --resume", experiment),
    "another name": Case("--resume old --name new", "--name does not go with --resume", experiment),
    "other epochs": Case("--resume old --epochs 5", "epochs is 4 in", experiment),
    "another data set": Case("--resume old --dataset cifar10", "dataset is synthetic in", experiment),
    "another range": Case("--resume old --l1-factor-range 1 2", "l1_factor_range is (1e-05, 10.0) in", experiment),
    "other data": Case(
        "--resume old",
        "the data has changed since the search began (0-0, now",
        lambda f: experiment(f, data_fingerprint="0-0"),
    ),
    "running elsewhere": Case(
        "--resume old", "old: another search is running in this folder", lambda f: LOCKS.append(experiment(f).lock())
    ),
    # Devices.
    "no GPU for trials": Case(
        "--gpus-per-trial 1", "trials want a GPU, but torch finds none here; use --gpus-per-trial 0"
    ),
    "no GPU for a network": Case("--device cuda", "trials want a GPU, but torch finds none here"),
    "no such accelerator": Case("--device mps", "device is mps, but torch finds none here; use --device cpu"),
    # Data.
    "no data folder": images_case("images: no such folder; --dataset images reads", lambda f: None),
    "no training part": images_case("images/train: no such folder", lambda f: (f / "images").mkdir()),
    "empty training part": images_case(
        "images/train: found 0 class folders; at least two are needed",
        lambda f: (f / "images/train").mkdir(parents=True),
    ),
    "one class": images_case("found 1 class folders; at least two are needed", lambda f: images(f, "ant")),
    "no test set": images_case(
        "images/test: no such folder; --dataset images reads DATA_DIR/train/<class>/* and test/; --confirm-top 0 goes",
        lambda f: shutil.rmtree(images(f).parent / "test"),
        "--val-size 4 --train-size 30",
    ),
    "a test set of other classes": images_case(
        "train and test have different classes (only in one: bee); --confirm-top 0 goes without",
        lambda f: shutil.rmtree(images(f).parent / "test/bee"),
        "--val-size 4 --train-size 30",
    ),
    "empty class": images_case("train/cow: no images", lambda f: (images(f) / "cow").mkdir()),
    "cut JPEG": images_case("bee/3.jpg: not a readable image", lambda f: cut(images(f) / "bee/3.jpg")),
    "text named JPEG": images_case(
        "ant/0.jpg: not a readable image", lambda f: (images(f) / "ant/0.jpg").write_text("text")
    ),
    "link to nowhere": images_case(
        "ant/far.png: cannot be read (No such file", lambda f: (images(f) / "ant/far.png").symlink_to("nowhere.png")
    ),
    "image of another size": images_case(
        "ant/big.png: the image is 48x32; it must be 32x32",
        lambda f: Image.new("RGB", (48, 32)).save(images(f) / "ant/big.png"),
    ),
    "all images for validation": images_case(
        "val_size is 40; it must be below the number of training images (40)", images, "--val-size 40"
    ),
    "fewer than classes for validation": images_case(
        "val_size is 1; it must be 0 or at least the number of classes (2)", images, "--val-size 1"
    ),
    "more images than there are": images_case(
        "train_size is 37; there are 36 images besides the validation images", images, "--val-size 4 --train-size 37"
    ),
    "fewer images than classes": Case(
        "--train-size 9", "train_size is 9; it must be at least the number of classes (10)"
    ),
    "no CIFAR-10 and no network": Case(
        "--preset cifar10-cpu --data-dir $/data", "data: CIFAR-10 is not there and cannot be downloaded"
    ),
    "CIFAR-10 with the wrong MD5": Case(
        "--preset cifar10-cpu --data-dir $/data", "data: CIFAR-10 is not there and cannot be downloaded", no_cifar10
    ),
    "CIFAR-10 that would run code": Case(
        "--preset cifar10-cpu --data-dir $/data", "CIFAR-10 is not there and cannot be downloaded", dangerous_cifar10
    ),
}
TRAIN_CASES = {
    "unknown flag": Case("--max-lrr 1", "unknown argument --max-lrr; did you mean --max-lr?"),
    "peak past the end": Case("--epochs 3 --peak-epoch 4", "peak_epoch is 4; it must be at most epochs (3)"),
    "missing config": Case("--config $/run.yaml", "run.yaml: cannot be read (No such file or directory)"),
    "sections in a config": Case(
        "--config $/run.yaml", "run.yaml: unknown key train", file("run.yaml", "train: {epochs: 3}")
    ),
    "no GPU": Case("--dataset synthetic --device cuda", "device is cuda, but torch finds none here; use --device cpu"),
    "foreign folder": Case(
        "--dataset synthetic --output $/runs",
        "runs: exists and is not the folder of a run",
        lambda f: (f / "runs/x").mkdir(parents=True),
    ),
    "another run's folder": Case(
        "--output $/runs --epochs 5",
        "runs: holds an unfinished run with epochs 4",
        lambda f: RunFolder(f / "runs").create(PLAN.train),
    ),
    "checkpoint that would run code": interrupted_run(
        lambda f: (f / "runs/checkpoint.pt").write_bytes(pickle.dumps(MakesAFolder(f)))
    ),
    "cut checkpoint": interrupted_run(lambda f: (f / "runs/checkpoint.pt").write_bytes(b"PK\x03\x04")),
    "no data": Case("--dataset images --data-dir $/images", "images: no such folder"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run; no Ray may start."""
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("bad input started Ray"))
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    """Everything below a folder, but for a lock that was let go."""
    files = [file for file in folder.rglob("*") if file.name != ".lock"]
    return {file: file.read_bytes() if file.is_file() else b"" for file in files}


def assert_one_line(stderr: str, words: str) -> None:
    assert stderr.startswith("error: ") and words in stderr
    assert len(stderr.splitlines()) == 1 and stderr.endswith("\n")


@pytest.mark.parametrize("case", SEARCH_CASES.values(), ids=SEARCH_CASES)
def test_search_refuses(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cifar10" in case.arguments:
        from torchvision.datasets import CIFAR10

        monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")  # refuses the connection
    arguments = given(case, folder)
    before = contents(folder / "experiments")
    with pytest.raises(SystemExit) as caught:
        search(arguments)
    assert caught.value.code == 2
    assert_one_line(capsys.readouterr().err, case.words)
    assert contents(folder / "experiments") == before
    assert not (folder / "exploded").exists()
    assert not ray.is_initialized()


@pytest.mark.parametrize("case", TRAIN_CASES.values(), ids=TRAIN_CASES)
def test_training_refuses(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = given(case, folder)
    before = contents(folder)
    with pytest.raises(SystemExit) as caught:
        train(arguments)
    assert caught.value.code == 2
    assert_one_line(capsys.readouterr().err, case.words)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            ["tune_experiments/search.py", "--num-sample", "3"],
            "unknown argument --num-sample; did you mean --num-samples?",
        ),
        (["tune_experiments/search.py", "--resume", "nothing"], "experiments/nothing: no such experiment to resume"),
        (["-m", "cifar_core", "--config", "nothing.yaml"], "nothing.yaml: cannot be read"),
    ],
)
def test_real_commands_refuse(command: list[str], words: str, tmp_path: Path) -> None:
    if command[0] != "-m":
        command = [str(ROOT / command[0]), *command[1:]]
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, words)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback_instead(folder: Path) -> None:
    with pytest.raises(Exception, match="epochs is 0") as caught:
        search(["--epochs", "0", "--debug"])
    assert type(caught.value).__name__ == "UserError"


def test_a_resumed_search_may_grow(folder: Path) -> None:
    """The cases of resuming are refused for their own reasons: without them Ray would have started."""
    experiment(folder)
    with pytest.raises(pytest.fail.Exception, match="bad input started Ray"):
        changes = ["--num-samples", "9", "--time-budget", "5", "--max-concurrent", "1"]
        search(["--resume", "old", *changes, "--confirm-top", "1", "--confirm-seeds", "2"])
