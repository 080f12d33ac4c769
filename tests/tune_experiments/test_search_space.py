import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_core.config import TrainConfig
from tune_experiments.search_space import SearchSpace, Setting, default_peak_range, edges, extended, seed_setting

SPACE = SearchSpace((0.01, 0.5), (1e-5, 10.0), (1, 6))


def test_a_setting_changes_three_fields_of_a_run() -> None:
    config = TrainConfig(epochs=8, seed=7)
    run = Setting(0.2, 0.3, 4).applied_to(config)
    assert (run.max_lr, run.l1_factor, run.peak_epoch) == (0.2, 0.3, 4)
    assert run == TrainConfig(epochs=8, seed=7, max_lr=0.2, l1_factor=0.3, peak_epoch=4)


@pytest.mark.parametrize(
    ("setting", "inside"),
    [
        (Setting(0.01, 1e-5, 1), True),
        (Setting(0.5, 10.0, 6), True),
        (Setting(0.0099, 1e-5, 1), False),
        (Setting(0.5, 10.1, 6), False),
        (Setting(0.5, 10.0, 0), False),
        (Setting(0.5, 10.0, 7), False),
    ],
)
def test_bounds_belong_to_the_space(setting: Setting, inside: bool) -> None:
    assert (setting in SPACE) == inside


@given(st.floats(1e-6, 10), st.floats(1e-8, 100), st.integers(0, 30))
def test_stretching_takes_a_setting_in_and_leaves_none_out(max_lr: float, l1_factor: float, peak_epoch: int) -> None:
    setting = Setting(max_lr, l1_factor, peak_epoch)
    stretched = SPACE.including(setting)
    for member in (setting, Setting(0.01, 1e-5, 1), Setting(0.5, 10.0, 6)):
        assert member in stretched
    assert (stretched == SPACE) == (setting in SPACE)


@pytest.mark.parametrize(("epochs", "peak"), [(24, 5), (12, 2), (8, 2), (5, 1), (2, 1), (1, 1), (48, 10)])
def test_seeds_setting_has_its_peak_at_the_same_share(epochs: int, peak: int) -> None:
    assert seed_setting(TrainConfig(epochs=epochs)) == Setting(0.0655, 5e-4, peak)


def test_seeds_setting_does_not_depend_on_the_run() -> None:
    run = TrainConfig(epochs=24, max_lr=0.3, l1_factor=1.0, peak_epoch=9, width=0.5)
    assert seed_setting(run) == seed_setting(TrainConfig())


@pytest.mark.parametrize(("epochs", "expected"), [(24, (1, 18)), (8, (1, 6)), (3, (1, 2)), (2, (1, 2)), (1, (0, 1))])
def test_peaks_run_from_the_first_epoch_to_three_quarters(epochs: int, expected: tuple[int, int]) -> None:
    assert default_peak_range(epochs) == expected


@given(st.integers(1, 500))
def test_default_peaks_and_the_seeds_fit_any_schedule(epochs: int) -> None:
    low, high = default_peak_range(epochs)
    assert 0 <= low < high <= epochs
    config = TrainConfig(epochs=epochs)
    for peak in (low, high, seed_setting(config).peak_epoch):
        assert Setting(0.1, 0.1, peak).applied_to(config).peak == peak


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (Setting(0.07, 1e-2, 3), {}),
        (Setting(0.011, 1e-2, 3), {"max_lr": "low"}),
        (Setting(0.49, 9.0, 6), {"max_lr": "high", "l1_factor": "high", "peak_epoch": "high"}),
        (Setting(0.9, 1e-6, 1), {"max_lr": "high", "l1_factor": "low", "peak_epoch": "low"}),
    ],
)
def test_edges_are_found_on_the_scale_of_the_search(setting: Setting, expected: dict[str, str]) -> None:
    assert edges(SPACE, setting) == expected


def test_no_peak_is_below_epoch_0() -> None:
    assert edges(SearchSpace((0.01, 0.5), (1e-5, 10.0), (0, 6)), Setting(0.07, 1e-2, 0)) == {}


def test_bounds_move_out_only_where_the_best_lies() -> None:
    assert extended(SPACE, {}, 8) == SPACE
    wider = extended(SPACE, {"max_lr": "high", "l1_factor": "low", "peak_epoch": "high"}, 8)
    assert wider == SearchSpace((0.01, 1.5), (pytest.approx(1e-6), 10.0), (1, 8))
    assert extended(SPACE, {"max_lr": "low", "peak_epoch": "low"}, 8) == SearchSpace(
        (pytest.approx(0.01 / 3), 0.5), (1e-5, 10.0), (0, 6)
    )


@given(st.floats(0.011, 0.4), st.floats(1e-4, 1.0), st.integers(1, 6))
def test_what_lay_at_an_edge_lies_inside_the_wider_space(max_lr: float, l1_factor: float, peak: int) -> None:
    setting = Setting(max_lr, l1_factor, peak)
    wider = extended(SPACE, edges(SPACE, setting), 20)
    assert setting in wider and edges(wider, setting) == {}
