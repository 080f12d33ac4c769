"""`python -m cifar_core.classify MODEL IMAGE...`: what an exported network sees in image files."""

import sys
from collections.abc import Sequence
from pathlib import Path

from cifar_core.errors import one_line_errors
from cifar_core.export import load_classifier
from cifar_core.options import Parser


def main(arguments: Sequence[str]) -> None:
    """Print one line per image: the file, its most probable class and that class's probability."""
    parser = Parser(prog="python -m cifar_core.classify", description="Classify image files by an exported network.")
    parser.add_argument("model", type=Path, help="model.safetensors of a run with --export")
    parser.add_argument("images", type=Path, nargs="+", help="image files; other sizes are cropped and scaled to 32×32")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    with one_line_errors(debug="--debug" in arguments):
        chosen = parser.parse(arguments)
        classifier = load_classifier(chosen.model)
        for image in chosen.images:
            name, probability = next(iter(classifier.classify(image).items()))
            print(f"{image}\t{name}\t{probability:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
