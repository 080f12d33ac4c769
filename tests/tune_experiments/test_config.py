from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.errors import UserError
from cifar_core.options import Parser
from tune_experiments.config import (
    SEARCHED,
    SECTIONS,
    Plan,
    SearchConfig,
    add_plan_options,
    preset_names,
    read_preset,
)
from tune_experiments.search_space import Setting

PLAN = Plan(TrainConfig(), SearchConfig(), RangeTestConfig())

pairs = st.tuples(st.floats(1e-9, 1), st.floats(2, 1e9))
plans = st.builds(
    Plan,
    train=st.builds(TrainConfig, epochs=st.integers(20, 99), val_size=st.integers(1, 10**6), seed=st.integers(0, 9)),
    search=st.builds(
        SearchConfig,
        num_samples=st.integers(1, 10**6),
        searcher=st.sampled_from(["optuna", "random"]),
        max_lr_range=st.none() | pairs,
        l1_factor_range=pairs,
        peak_epoch_range=st.none() | st.tuples(st.integers(0, 9), st.integers(10, 20)),
        gpus_per_trial=st.none() | st.floats(0, 1) | st.integers(2, 8).map(float),
        time_budget=st.none() | st.floats(1, 1e6),
    ),
    range_test=st.builds(RangeTestConfig, steps=st.integers(100, 999), l1_factors=st.none() | pairs),
)


def given_flags(*arguments: str) -> dict[str, Any]:
    parser = Parser()
    add_plan_options(parser)
    return vars(parser.parse(arguments))


def build(sections: dict[str, Any] | None = None, *arguments: str) -> Plan:
    return Plan.from_mapping(sections or {}, given_flags(*arguments), "plan.yaml")


@given(plans)
def test_yaml_gives_an_equal_plan_back(plan: Plan) -> None:
    sections = yaml.safe_load(yaml.safe_dump(plan.to_mapping()))
    assert Plan.from_mapping(sections, {}, "plan.yaml") == plan


def test_nothing_given_is_all_defaults() -> None:
    assert build() == PLAN
    assert list(PLAN.to_mapping()) == list(SECTIONS) == ["train", "search", "range_test"]


def test_flags_win_over_the_file_and_the_file_over_defaults() -> None:
    sections = {"train": {"epochs": 10, "width": 0.5}, "range_test": {"seeds": 2}}
    plan = build(sections, "--epochs", "12", "--num-samples", "3", "--range-test-steps", "200")
    assert (plan.train.epochs, plan.train.width, plan.train.batch_size) == (12, 0.5, 512)
    assert plan.search.num_samples == 3
    assert (plan.range_test.seeds, plan.range_test.steps) == (2, 200)


def test_every_field_has_a_flag_but_for_what_is_searched() -> None:
    parser = Parser()
    add_plan_options(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    for schema, prefix in ((TrainConfig, "--"), (SearchConfig, "--"), (RangeTestConfig, "--range-test-")):
        for field in fields(schema):
            assert (prefix + field.name.replace("_", "-") in flags) == (field.name not in (*SEARCHED, "threads"))


def test_what_is_searched_are_the_fields_of_a_setting() -> None:
    assert tuple(field.name for field in fields(Setting)) == SEARCHED


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"trian": {}}, "plan.yaml: unknown section trian; did you mean train?"),
        ({"epochs": 3}, "plan.yaml: unknown section epochs"),
        ({"train": None}, "plan.yaml: section train must hold 'key: value' lines"),
        ({"search": [1]}, "plan.yaml: section search must hold 'key: value' lines"),
        ({"train": {"epoch": 3}}, "plan.yaml: unknown key epoch; did you mean epochs?"),
        ({"search": {"epochs": 3}}, "plan.yaml: unknown key epochs"),
        ({"search": {"scheduler": "pbt"}}, "plan.yaml: scheduler is pbt; it must be one of asha, stock-asha, none"),
        (
            {"search": {"max_lr_range": [0.5, 0.1]}},
            "plan.yaml: max_lr_range is 0.5 to 0.1; the first number must be the smaller one",
        ),
        ({"search": {"l1_factor_range": [0, 1]}}, "plan.yaml: l1_factor_range is 0; it must be above 0"),
        ({"search": {"gpus_per_trial": 1.5}}, "plan.yaml: gpus_per_trial is 1.5; above 1 it must be a whole number"),
        ({"range_test": {"steps": 99}}, "plan.yaml: steps is 99; it must be at least 100"),
        ({"train": {"val_size": 0}}, "val_size is 0; a search selects on validation images and never on the test set"),
        ({"search": {"confirm_seeds": 1}}, "plan.yaml: confirm_seeds is 1; it must be at least 2"),
        ({"search": {"confirm_top": -1}}, "plan.yaml: confirm_top is -1; it must be at least 0"),
        (
            {"train": {"seed": 2**32 - 1}},
            "seed is 4294967295; it must be at most 4294967290: confirm_seeds more follow it",
        ),
        ({"search": {"peak_epoch_range": [1, 25]}}, "peak_epoch_range ends above epochs (24)"),
    ],
)
def test_one_exact_line_for_a_file_that_does_not_fit(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(sections)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-samples", "0"], "command line: num_samples is 0; it must be at least 1"),
        (["--reduction-factor", "1"], "command line: reduction_factor is 1; it must be at least 1.1"),
        (["--grace-period", "0"], "command line: grace_period is 0; it must be at least 1"),
        (
            ["--max-lr-range", "1", "0.1"],
            "command line: max_lr_range is 1 to 0.1; the first number must be the smaller one",
        ),
        (["--peak-epoch-range", "1", "9.5"], "command line: peak_epoch_range is '9.5'; it must be a whole number"),
        (["--time-budget", "0"], "command line: time_budget is 0; it must be above 0"),
        (["--max-failures", "-1"], "command line: max_failures is -1; it must be at least 0"),
        (["--range-test-lowest-lr", "20"], "command line: lowest_lr is 20; it must be below highest_lr (1)"),
        (["--val-size", "0"], "val_size is 0; a search selects on validation images and never on the test set"),
        (["--max-lr", "0.1"], "unknown argument --max-lr; did you mean --max-lr-range?; see --help"),
    ],
)
def test_one_exact_line_for_a_flag_that_does_not_fit(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build({}, *arguments)
    assert str(caught.value) == message


def test_fresh_seeds_are_those_after_the_searchs_own() -> None:
    assert build({}, "--seed", "7", "--confirm-seeds", "3").fresh_seeds == [8, 9, 10]
    assert build({}, "--seed", str(2**32 - 1), "--confirm-top", "0").train.seed == 2**32 - 1


def test_an_error_in_the_file_names_the_file_although_there_are_flags() -> None:
    with pytest.raises(UserError, match=r"^plan\.yaml: epochs is 0"):
        build({"train": {"epochs": 0}}, "--epochs", "5")


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_plans(name: str) -> None:
    plan = Plan.from_mapping(read_preset(name), {}, name)
    assert plan.search.num_samples > plan.search.reduction_factor
    assert plan.rungs
    assert set(read_preset(name)) <= set(SECTIONS)


def test_the_presets_that_the_documentation_names() -> None:
    assert preset_names() == ["cifar10", "cifar10-cpu", "quick"]
    assert Plan.from_mapping(read_preset("cifar10"), {}, "").train == TrainConfig()


def test_a_preset_may_be_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  epochs: 7\n")
    assert Plan.from_mapping(read_preset(str(path)), {}, "") == replace(PLAN, train=TrainConfig(epochs=7))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "quik",
            "unknown preset quik; did you mean quick?; there are cifar10, cifar10-cpu, quick, or give a .yaml file",
        ),
        ("", "unknown preset ; there are cifar10, cifar10-cpu, quick, or give a .yaml file"),
        ("mine.yaml", "mine.yaml: cannot be read (No such file or directory)"),
    ],
)
def test_one_exact_line_for_an_unknown_preset(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        read_preset(name)
    assert str(caught.value) == message
