"""A trained network as one safetensors file, with all that is needed to classify images by it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from cifar_core import checkpoint
from cifar_core.augment import normalize
from cifar_core.config import TrainConfig
from cifar_core.errors import UserError
from cifar_core.image_data import SIZE
from cifar_core.model import MirrorAveraged, ResNetC
from cifar_core.options import from_mapping


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network, as its scores were taken, with its class names; computes in fp32."""

    model: nn.Module
    class_names: tuple[str, ...]

    def classify(self, file: Path | str) -> dict[str, float]:
        """Each class's probability for an image file, the most probable class first.

        Raises:
            UserError: the file is no readable image.
        """
        probabilities = self.probabilities(read_image(Path(file))[None])[0]
        return {self.class_names[index]: float(probabilities[index]) for index in np.argsort(-probabilities)}

    @torch.inference_mode()
    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB images (N, 32, 32, 3) to float32 (N, C); rows sum to 1."""
        device = next(self.model.parameters()).device
        logits = self.model(normalize(torch.tensor(images, device=device)))
        return logits.softmax(1).cpu().numpy()  # type: ignore[no-any-return]


def export_checkpoint(source: Path, target: Path) -> None:
    """Write the network of a checkpoint as safetensors; config and class names go into its metadata, as JSON."""
    content = checkpoint.read(source)
    weights = {name: tensor.contiguous() for name, tensor in content["model"].items()}
    metadata = {name: json.dumps(content[name]) for name in ("config", "class_names")}
    target.write_bytes(save(weights, metadata))


def load_classifier(path: Path | str, device: str = "cpu") -> Classifier:
    """Load an exported network; raises `UserError` where the file is none."""
    try:
        with safe_open(path, framework="pt", device=device) as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    if not {"config", "class_names"} <= metadata.keys():
        raise UserError(f"{path}: not exported by cifar_core (its metadata has no config and class names)")
    config = from_mapping(TrainConfig, json.loads(metadata["config"]), str(path))
    class_names = tuple(json.loads(metadata["class_names"]))
    model = ResNetC(config.width, len(class_names)).to(device)
    model.load_state_dict(weights)
    scored = MirrorAveraged(model) if config.test_time_flip else model
    return Classifier(scored.eval(), class_names)


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as uint8 RGB (32, 32, 3): upright, cropped to its central square, scaled down or up.

    Raises:
        UserError: the file is no readable image.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{path}: not a readable image ({error})") from None
    return np.array(ImageOps.fit(upright, (SIZE, SIZE), Image.Resampling.BICUBIC))
