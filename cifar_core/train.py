"""The training loop: `train_step`, `train_epoch`, `evaluate`, and `fit`, which is a loop over `Trainer`.

Losses and hits stay on the device until an epoch ends: one synchronisation an epoch, none a step.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.sgd import sgd  # the stock constructor imports torch's compiler, seconds; this is its arithmetic
from torch.optim.swa_utils import AveragedModel

from cifar_core.averaging import weight_average
from cifar_core.config import TrainConfig
from cifar_core.datasets import ImageData, TrainingData
from cifar_core.device import Compute, resolve_compute
from cifar_core.history import EpochMetrics, History, StepMetrics
from cifar_core.loader import TrainLoader, eval_batches
from cifar_core.model import MirrorAveraged, ResNetC
from cifar_core.regularization import add_l1_gradient, l1_term
from cifar_core.schedule import OneCycle, StepSetting, one_cycle

Batch = tuple[Tensor, Tensor]  # normalised images (B, 3, 32, 32) and labels (B,)


class BatchResult(NamedTuple):
    """Scalars on the device: the batch's mean cross-entropy and how many images were right."""

    loss: Tensor
    hits: Tensor


class Optimizer:
    """SGD with momentum, weight decay and the L1 term in closed form, its buffers beside the parameters."""

    def __init__(
        self, parameters: Iterable[Tensor], weight_decay: float, l1_factor: float, nesterov: bool = False
    ) -> None:
        self.parameters = list(parameters)
        self.momentum_buffers = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.weight_decay = weight_decay
        self.l1_factor = l1_factor
        self.nesterov = nesterov

    @torch.no_grad()
    def step(self, setting: StepSetting) -> None:
        """Update the parameters from their gradients, and forget the gradients."""
        gradients = [parameter.grad for parameter in self.parameters]
        assert all(gradient is not None for gradient in gradients)
        add_l1_gradient(self.parameters, gradients, self.l1_factor)  # type: ignore[arg-type]
        sgd(
            self.parameters,
            gradients,  # type: ignore[arg-type]
            self.momentum_buffers,  # type: ignore[arg-type]
            lr=setting.lr,
            momentum=setting.momentum,
            weight_decay=self.weight_decay,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            fused=True,
        )
        for parameter in self.parameters:
            parameter.grad = None


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    setting: StepSetting,
    compute: Compute,
    label_smoothing: float = 0.0,
) -> BatchResult:
    """One forward and backward pass and one update. Images (B, 3, 32, 32) normalised, labels (B,) int64."""
    with compute.autocast():
        logits = model(images)
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step(setting)
    return BatchResult(loss.detach(), _hits(logits, labels))


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    schedule: OneCycle,
    first_step: int,
    compute: Compute,
    average: AveragedModel | None = None,
    label_smoothing: float = 0.0,
) -> tuple[StepMetrics, float, float]:
    """One pass over the batches, `average` following. Returns the steps, and mean loss and accuracy per image."""
    model.train()
    results, settings, sizes = [], [], []
    for step, (images, labels) in enumerate(batches, start=first_step):
        settings.append(schedule.at(step))
        results.append(train_step(model, optimizer, images, labels, settings[-1], compute, label_smoothing))
        if average:
            average.update_parameters(model)
        sizes.append(len(labels))
    losses = torch.stack([result.loss for result in results]).cpu().numpy()
    hits = int(torch.stack([result.hits for result in results]).sum())
    lrs, momenta = np.array(settings, dtype=np.float32).T
    mean_loss = float(np.average(losses.astype(np.float64), weights=sizes))
    return StepMetrics(losses, lrs, momenta), mean_loss, hits / sum(sizes)


@torch.inference_mode()
def evaluate(model: nn.Module, data: ImageData, compute: Compute) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on `data`, not augmented."""
    model.eval()
    loss = torch.zeros((), device=compute.device)
    hits = torch.zeros((), device=compute.device, dtype=torch.int64)
    for images, labels in eval_batches(data, compute.device):
        with compute.autocast():
            logits = model(images)
        loss += F.cross_entropy(logits.float(), labels, reduction="sum")
        hits += _hits(logits, labels)
    return float(loss) / len(data), int(hits) / len(data)


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).sum()


def build_model(config: TrainConfig, classes: int, compute: Compute) -> ResNetC:
    """A fresh network. Its weights are a pure function of the config's seed, the same on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = ResNetC(config.width, classes, config.head_scale)
    return model.to(compute.device).to(memory_format=torch.channels_last)


class Trainer:
    """A run that goes on epoch by epoch, and that can be saved and loaded between two of them."""

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        torch.set_num_threads(config.threads or torch.get_num_threads())
        self.config = config
        self.data = data
        self.compute = resolve_compute(config)
        self.model = build_model(config, len(data.train.class_names), self.compute)
        self.optimizer = Optimizer(self.model.parameters(), config.weight_decay, config.l1_factor, config.nesterov)
        self.loader = TrainLoader(data.train, config, self.compute.device)
        self.schedule = one_cycle(config, self.loader.steps_per_epoch)
        span = config.ema_epochs * self.loader.steps_per_epoch
        self.average = weight_average(self.model, span) if span else None
        self.history = History()

    @property
    def finished_epochs(self) -> int:
        """How many epochs the weights have seen."""
        return len(self.history.epochs)

    @property
    def done(self) -> bool:
        """Whether the schedule is at its end, or the weights are lost."""
        last = self.history.epochs[-1] if self.history.epochs else None
        return self.finished_epochs >= self.config.epochs or (last is not None and last.diverged)

    @property
    def scored(self) -> nn.Module:
        """The network as its scores are taken: itself, or with test-time augmentation."""
        return self._scored(self.model)

    def _scored(self, model: nn.Module) -> nn.Module:
        return MirrorAveraged(model) if self.config.test_time_flip else model

    def run_epoch(
        self, watch: Callable[[Iterable[Batch]], Iterable[Batch]] = iter, score_average: bool = True
    ) -> EpochMetrics:
        """Train one epoch and validate. A loss that is not finite leaves no validation figures: see `diverged`.

        `watch` passes the batches on, and may count them: `tqdm` is one. Where an average of the weights is kept,
        `score_average` says whether it is validated too, which takes as long as for the weights.
        """
        start = time.perf_counter()
        first_step = self.finished_epochs * self.loader.steps_per_epoch
        steps, train_loss, train_accuracy = train_epoch(
            self.model,
            self.optimizer,
            watch(self.loader.batches(self.finished_epochs)),
            self.schedule,
            first_step,
            self.compute,
            self.average,
            self.config.label_smoothing,
        )
        val_loss, val_accuracy = math.nan, math.nan
        if math.isfinite(train_loss):
            val_loss, val_accuracy = evaluate(self.scored, self.data.val, self.compute)
        if not math.isfinite(val_loss):
            val_accuracy = math.nan  # not a number either: of logits that are NaN, argmax makes class 0
        ema_loss, ema_accuracy = None, None
        if self.average and score_average and math.isfinite(val_loss):
            ema_loss, ema_accuracy = evaluate(self._scored(self.average), self.data.val, self.compute)
        metrics = EpochMetrics(
            epoch=self.finished_epochs + 1,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            lr=float(steps.lr[-1]),
            momentum=float(steps.momentum[-1]),
            l1=float(l1_term(self.optimizer.parameters, self.config.l1_factor)),
            seconds=time.perf_counter() - start,
            ema_val_loss=ema_loss,
            ema_val_accuracy=ema_accuracy,
        )
        self.history.epochs.append(metrics)
        self.history.steps.append(steps)
        return metrics


def fit(
    config: TrainConfig, data: TrainingData, on_epoch: Callable[[EpochMetrics], object] = lambda metrics: None
) -> Trainer:
    """Train from the start to the end of the schedule, or until the loss is not finite."""
    trainer = Trainer(config, data)
    while not trainer.done:
        on_epoch(trainer.run_epoch())
    return trainer
