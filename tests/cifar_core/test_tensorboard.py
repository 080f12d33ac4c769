from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from cifar_core.datasets import load_training_data
from cifar_core.history import History
from cifar_core.tensorboard import EPOCH_TAGS, HPARAMS_METRICS, STEP_TAGS, RunWriter
from cifar_core.train import fit
from tests.cifar_core.tiny import TINY


@pytest.fixture(scope="module")
def history() -> History:
    return fit(TINY, load_training_data(TINY)).history


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def assert_equals_history(events: EventAccumulator, history: History) -> None:
    steps, epochs = history.step_frame(), history.epoch_frame()
    for column, tag in STEP_TAGS.items():
        assert [event.step for event in events.Scalars(tag)] == steps["step"].tolist()
        np.testing.assert_allclose([event.value for event in events.Scalars(tag)], steps[column], rtol=1e-6)
    for column, tag in EPOCH_TAGS.items():
        assert [event.step for event in events.Scalars(tag)] == epochs["epoch"].tolist()
        np.testing.assert_allclose([event.value for event in events.Scalars(tag)], epochs[column], rtol=1e-6)


def test_the_scalars_are_the_history(tmp_path: Path, history: History) -> None:
    writer = RunWriter(tmp_path, TINY, History())
    for metrics, steps in zip(history.epochs, history.steps, strict=True):
        writer.add_epoch(metrics, steps)
    writer.close()
    assert_equals_history(read(tmp_path), history)


def test_a_run_that_goes_on_from_an_older_checkpoint_shows_each_step_once(tmp_path: Path, history: History) -> None:
    RunWriter(tmp_path, TINY, history).close()  # what the crashed run wrote
    checkpointed = History(history.epochs[:1], history.steps[:1])
    writer = RunWriter(tmp_path, TINY, checkpointed)
    writer.add_epoch(history.epochs[1], history.steps[1])
    writer.close()
    assert_equals_history(read(tmp_path), History(history.epochs[:2], history.steps[:2]))


def test_runs_compare_in_the_hparams_tab(tmp_path: Path, history: History) -> None:
    RunWriter(tmp_path, TINY, history).close()
    events = read(tmp_path)
    plugin = events.SummaryMetadata
    start = metadata.parse_session_start_info_plugin_data(plugin(metadata.SESSION_START_INFO_TAG).plugin_data.content)
    assert start.hparams["max_lr"].number_value == pytest.approx(TINY.max_lr)
    assert start.hparams["peak_epoch"].number_value == pytest.approx(TINY.peak)
    assert start.hparams["dataset"].string_value == "synthetic"
    end = metadata.parse_session_end_info_plugin_data(plugin(metadata.SESSION_END_INFO_TAG).plugin_data.content)
    assert (
        end.status
        == plugin_data_pb2.SessionEndInfo.DESCRIPTOR.fields_by_name["status"]
        .enum_type.values_by_name["STATUS_SUCCESS"]
        .number
    )
    experiment = metadata.parse_experiment_plugin_data(plugin(metadata.EXPERIMENT_TAG).plugin_data.content)
    assert [metric.name.tag for metric in experiment.metric_infos] == HPARAMS_METRICS
    written = events.Tags()["scalars"]
    assert all(tag in written for tag in HPARAMS_METRICS if not tag.endswith("/test"))
