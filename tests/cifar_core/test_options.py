import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cifar_core.errors import UserError
from cifar_core.options import (
    Parser,
    add_options,
    check_bounds,
    from_mapping,
    nearest,
    option,
    option_names,
    read_yaml,
    to_mapping,
)


@dataclass(frozen=True)
class Kitchen:
    """A field of every kind. And a second sentence."""

    spoons: int = option(6, "how many", at_least=1, at_most=100)
    heat: float = option(0.5, "of the oven, 50% is half", above=0)
    lid: bool = option(False, "whether there is one")
    dish: Literal["soup", "stew"] = option("soup", "what is made")
    pantry: Path = option(Path("pantry"), "where things are")
    guests: int | None = option(None, "none is whoever comes", at_least=0)
    grams: tuple[float, float] = option((1.0, 2.0), "of salt", above=0)
    hours: tuple[int, int] | None = option(None, "from and to", at_least=0)
    recipe: str = "not an option"

    def __post_init__(self) -> None:
        check_bounds(self)


def build(**values: Any) -> Kitchen:
    return from_mapping(Kitchen, values, "menu.yaml")


def parsed(*arguments: str) -> dict[str, Any]:
    parser = Parser()
    add_options(parser, Kitchen)
    return vars(parser.parse(arguments))


numbers = st.floats(1e-300, 1e300)
kitchens = st.builds(
    Kitchen,
    spoons=st.integers(1, 100),
    heat=numbers,
    lid=st.booleans(),
    dish=st.sampled_from(["soup", "stew"]),
    pantry=st.text("abc./ ", min_size=1).map(Path),
    guests=st.none() | st.integers(0, 10**15),
    grams=st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: tuple(sorted(pair))),
    hours=st.none() | st.tuples(st.integers(0, 50), st.integers(51, 10**6)),
)


@given(kitchens)
def test_mapping_and_yaml_give_an_equal_object_back(kitchen: Kitchen) -> None:
    plain = to_mapping(kitchen)
    assert from_mapping(Kitchen, plain, "") == kitchen
    assert from_mapping(Kitchen, yaml.safe_load(yaml.safe_dump(plain)), "") == kitchen


@given(kitchens)
def test_flags_give_an_equal_object_back(kitchen: Kitchen) -> None:
    arguments = []
    for name, value in to_mapping(kitchen).items():
        if isinstance(value, bool):
            arguments.append(f"--{'' if value else 'no-'}{name}")
        elif isinstance(value, list):
            arguments += [f"--{name}", *map(str, value)]
        elif value is not None:
            arguments.append(f"--{name}={value}")
    assert build(**parsed(*arguments)) == kitchen


def test_mapping_holds_options_in_order_and_nothing_else() -> None:
    assert option_names(Kitchen) == ["spoons", "heat", "lid", "dish", "pantry", "guests", "grams", "hours"]
    assert list(to_mapping(Kitchen())) == option_names(Kitchen)
    assert to_mapping(Kitchen(grams=(3.0, 4.0)))["grams"] == [3.0, 4.0]
    assert to_mapping(Kitchen())["pantry"] == "pantry"


def test_nothing_given_is_all_defaults() -> None:
    assert build() == build(**parsed()) == Kitchen()


@pytest.mark.parametrize(("text", "heat"), [("1e-3", 1e-3), ("1E5", 1e5), ("2", 2.0), (".5", 0.5), ("1_0.5", 10.5)])
def test_numbers_that_yaml_reads_as_text_or_as_whole_convert(text: str, heat: float) -> None:
    value = build(**yaml.safe_load(f"heat: {text}")).heat
    assert value == heat and type(value) is float


def test_whole_floats_are_whole_numbers() -> None:
    value = build(spoons=3.0).spoons
    assert value == 3 and type(value) is int


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spoons": 0}, "spoons is 0; it must be at least 1 and at most 100"),
        ({"spoons": 101}, "spoons is 101; it must be at least 1 and at most 100"),
        ({"spoons": 2.5}, "spoons is 2.5; it must be a whole number"),
        ({"spoons": "2.5"}, "spoons is '2.5'; it must be a whole number"),
        ({"spoons": "many"}, "spoons is 'many'; it must be a whole number"),
        ({"spoons": ""}, "spoons is ''; it must be a whole number"),
        ({"spoons": None}, "spoons is None; it must be a whole number"),
        ({"spoons": True}, "spoons is True; it must be int"),
        ({"spoons": [3]}, "spoons is [3]; it must be a whole number"),
        ({"spoons": {"a": 3}}, "spoons is {'a': 3}; it must be a whole number"),
        ({"spoons": float("inf")}, "spoons is inf; it must be a whole number"),
        ({"heat": 0}, "heat is 0; it must be above 0"),
        ({"heat": -1e-9}, "heat is -1e-09; it must be above 0"),
        ({"heat": "nan"}, "heat is nan; it must be above 0"),
        ({"heat": float("inf")}, "heat is inf; it must be above 0"),
        ({"heat": "hot"}, "heat is 'hot'; it must be a number"),
        ({"heat": False}, "heat is False; it must be float"),
        ({"heat": [1.0]}, "heat is [1.0]; it must be a number"),
        ({"lid": 1}, "lid is 1; it must be true or false"),
        ({"lid": "yes"}, "lid is yes; it must be true or false"),
        ({"lid": None}, "lid is None; it must be true or false"),
        ({"dish": "salad"}, "dish is salad; it must be one of soup, stew"),
        ({"dish": None}, "dish is None; it must be one of soup, stew"),
        ({"dish": ["soup"]}, "dish is ['soup']; it must be one of soup, stew"),
        ({"pantry": 3}, "pantry is 3; it must be Path"),
        ({"pantry": None}, "pantry is None; it must be Path"),
        ({"guests": -1}, "guests is -1; it must be at least 0"),
        ({"guests": "none"}, "guests is 'none'; it must be a whole number"),
        ({"grams": 3}, "grams is 3; it must be two numbers, low and high"),
        ({"grams": "12"}, "grams is 12; it must be two numbers, low and high"),
        ({"grams": [1]}, "grams is [1]; it must be two numbers, low and high"),
        ({"grams": [1, 2, 3]}, "grams is [1, 2, 3]; it must be two numbers, low and high"),
        ({"grams": None}, "grams is None; it must be two numbers, low and high"),
        ({"grams": [2, 1]}, "grams is 2 to 1; the first number must be the smaller one"),
        ({"grams": [2, 2]}, "grams is 2 to 2; the first number must be the smaller one"),
        ({"grams": [0, 2]}, "grams is 0; it must be above 0"),
        ({"grams": ["nan", 2]}, "grams is nan; it must be above 0"),
        ({"grams": [1, True]}, "grams is True; it must be float"),
        ({"hours": [1.5, 2]}, "hours is 1.5; it must be a whole number"),
        ({"hours": [-1, 2]}, "hours is -1; it must be at least 0"),
        ({"spons": 1}, "unknown key spons; did you mean spoons?"),
        ({"zzz": 1}, "unknown key zzz"),
        ({"recipe": "x"}, "unknown key recipe"),
        ({3: 1}, "unknown key 3"),
    ],
)
def test_one_exact_line_for_what_does_not_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_mapping(Kitchen, values, "menu.yaml")
    assert str(caught.value) == f"menu.yaml: {message}"


def test_no_number_is_too_large_to_be_looked_at() -> None:
    assert build(guests=10**400).guests == 10**400
    with pytest.raises(UserError, match=r"spoons is 10+; it must be at least 1 and at most 100"):
        build(spoons=10**400)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--spons", "3"], "unknown argument --spons; did you mean --spoons?; see --help"),
        (["--spons=3"], "unknown argument --spons=3; did you mean --spoons?; see --help"),
        (["--spoon", "3"], "unknown argument --spoon; did you mean --spoons?; see --help"),
        (["--zzz"], "unknown argument --zzz; see --help"),
        (["-x"], "unknown argument -x; see --help"),
        (["soup"], "unknown argument soup; see --help"),
        (["--spoons"], "--spoons: expected one argument"),
        (["--grams", "1"], "--grams: expected 2 arguments"),
        (["--grams", "1", "2", "3"], "unknown argument 3; see --help"),
        (["--lid=3"], "--lid/--no-lid: ignored explicit argument '3'"),
        (["--recipe", "x"], "unknown argument --recipe; see --help"),
    ],
)
def test_one_exact_line_for_a_wrong_flag(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed(*arguments)
    assert str(caught.value) == message


def test_negative_numbers_are_values_and_not_flags() -> None:
    assert parsed("--spoons", "-3", "--grams", "-1", "-2.5") == {"spoons": "-3", "grams": ["-1", "-2.5"]}


def test_only_flags_that_were_given_are_there() -> None:
    assert parsed("--no-lid", "--dish", "stew") == {"lid": False, "dish": "stew"}


def test_prefix_and_skipped_fields() -> None:
    parser = Parser()
    add_options(parser, Kitchen, skip=["spoons"], prefix="left_")
    assert vars(parser.parse(["--left-heat", "2", "--no-left-lid"])) == {"left_heat": "2", "left_lid": False}
    with pytest.raises(UserError, match="--left-spoons"):
        parser.parse(["--left-spoons", "3"])


def test_help_lists_every_field_with_its_words_and_default_once(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="cook", description="First line.\nSecond line.")
    parser.add_argument("--oven", default="gas", help="which (default: %(default)s)")
    parser.add_argument("--open", action=argparse.BooleanOptionalAction, help="plain")
    add_options(parser, Kitchen)
    with pytest.raises(SystemExit) as caught:
        parser.parse(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    words = " ".join(text.split())
    for field in dataclasses.fields(Kitchen):
        if "help" in field.metadata:
            assert f"--{field.name}" in words
            assert f"{field.metadata['help']} (default: " in words
    assert "(default: 1.0 2.0)" in words and "--grams LOW HIGH" in words and "--dish soup|stew" in words
    assert "A field of every kind." in words
    assert "which (default: gas)" in words
    assert ") (default" not in words and "plain (default" not in words
    assert "First line.\nSecond line." in text


def test_nearest_ignores_the_value_of_a_flag() -> None:
    assert nearest("--sponns=7", ["--spoons", "--heat"]) == "; did you mean --spoons?"
    assert nearest("xyz", ["--spoons"]) == ""


def test_bounds_hold_in_python_too() -> None:
    for changes in ({"spoons": 0}, {"heat": float("nan")}, {"grams": (0.0, 1.0)}, {"hours": (-1, 3)}):
        with pytest.raises(UserError):
            Kitchen(**changes)
    assert Kitchen(guests=None, hours=None).guests is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1, 2", "not valid YAML"),
        (b"a: b: c", "not valid YAML"),
        (b"\xff\xfe\xff", "not valid YAML"),
        (b"a: \x00", "not valid YAML"),
        (b"!!python/object/apply:os.system ['true']", "not valid YAML"),
        (b"a: *nothing", "not valid YAML"),
        (b"a: 2026-99-99", "not valid YAML"),
        (b"", "expected 'key: value' lines, found NoneType"),
        (b"- a\n- b", "expected 'key: value' lines, found list"),
        (b"only text", "expected 'key: value' lines, found str"),
    ],
)
def test_one_line_for_a_file_that_is_no_yaml_mapping(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "menu.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"menu\.yaml: {message}") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "reason"), [("missing.yaml", "No such file"), ("", "Is a directory")])
def test_one_line_for_a_file_that_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"cannot be read \({reason}"):
        read_yaml(tmp_path / name)


def test_reads_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "menu.yaml"
    path.write_text("dish: stew\npantry: été\n", encoding="utf-8")
    assert build(**read_yaml(path)) == Kitchen(dish="stew", pantry=Path("été"))
