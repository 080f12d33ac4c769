from pathlib import Path

import pytest

from cifar_core.__main__ import build_config, build_parser, main
from cifar_core.config import TrainConfig
from cifar_core.errors import UserError
from cifar_core.run_folder import RunFolder
from tests.cifar_core.tiny import TINY


def config_for(arguments: list[str], output: Path = Path("nowhere")) -> TrainConfig:
    return build_config(build_parser().parse(arguments), output)


def test_no_flags_are_the_recipe() -> None:
    assert config_for([]) == TrainConfig()


def test_flags_override_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("max_lr: 0.2\nwidth: 0.25\n")
    config = config_for(["--config", str(file), "--max-lr", "0.1"])
    assert config == TrainConfig(max_lr=0.1, width=0.25)


def test_a_runs_own_config_is_the_base_in_its_folder(tmp_path: Path) -> None:
    RunFolder(tmp_path).create(TINY)
    assert config_for([], tmp_path) == TINY


def test_an_error_in_the_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("max_lrr: 0.2\n")
    with pytest.raises(UserError, match=r"config.yaml: unknown key max_lrr; did you mean max_lr\?"):
        config_for(["--config", str(file)])


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--help"])
    text = capsys.readouterr().out
    assert exit_code.value.code == 0
    assert "python -m cifar_core --output DIR" in text and "--max-lr" in text and "0.0655" in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--max-lrr", "1"], "unknown argument --max-lrr; did you mean --max-lr?"),
        (["--max-lr", "fast"], "max_lr is 'fast'; it must be a number"),
        (["--epochs", "0"], "epochs is 0; it must be at least 1"),
        (["--config", "missing.yaml"], "missing.yaml: cannot be read"),
        (["--dataset", "images", "--data-dir", "nowhere"], "nowhere: no such folder"),
        (["--dataset", "synthetic", "--train-size", "3"], "train_size is 3; it must be at least the number of classes"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_code:
        main(arguments)
    error = capsys.readouterr().err
    assert exit_code.value.code == 2
    assert error.startswith("error: ") and line in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(UserError):
        main(["--epochs", "0", "--debug"])


def test_an_interrupt_tells_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        RunFolder(tmp_path).checkpoint.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("cifar_core.run.run", interrupted)
    assert main(["--output", str(tmp_path)]) == 130
    assert f"python -m cifar_core --output {tmp_path} goes on" in capsys.readouterr().err
