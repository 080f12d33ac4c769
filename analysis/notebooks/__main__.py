"""`python -m analysis.notebooks EXPERIMENT`: run the notebooks on an experiment and keep the outputs in them."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.trials import read_experiment
from cifar_core.errors import UserError, one_line_errors
from cifar_core.options import Parser
from tune_experiments.remote_folder import is_uri

FOLDER = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with one_line_errors(debug="--debug" in arguments):
        parser = Parser(prog="python -m analysis.notebooks", description=__doc__)
        parser.add_argument("experiment", metavar="EXPERIMENT", help="an experiment's folder or URI")
        parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR", help="default: where they are")
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        given = parser.parse(arguments)
        read_experiment(given.experiment)  # before a kernel starts: what is wrong is one line
        _run_all(given.experiment, given.output)
    return 0


def _run_all(experiment: str, output: Path) -> None:
    try:
        import nbformat
    except ImportError:
        raise UserError("the notebooks need more packages: pip install -e '.[notebooks]'") from None
    output.mkdir(parents=True, exist_ok=True)
    for file in sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
        execute(notebook, experiment)
        nbformat.write(notebook, output / file.name)  # type: ignore[no-untyped-call]
        print(f"Written: {output / file.name}")


def execute(notebook: Any, experiment: str) -> None:
    """Run all cells of an `nbformat` notebook on an experiment, by path or URI; raises where a cell does.

    What is kept tells nothing of the machine: no times, and none of the warnings, which hold paths.
    """
    from nbclient import NotebookClient

    location = experiment if is_uri(experiment) else str(Path(experiment).expanduser().resolve())
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(FOLDER.parents[1])}},  # where a checkout's packages are imported from
    )
    client.execute(env=os.environ | {"EXPERIMENT": location})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


if __name__ == "__main__":
    sys.exit(main())
