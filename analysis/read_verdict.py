"""`confirm.json`, checked: what a search leaves of its confirmation with fresh seeds."""

import json
import math
from typing import Any

from cifar_core.errors import UserError
from tune_experiments.verdict import (
    CONFIRM_FILE,
    FORMAT,
    ConfirmedSetting,
    Estimate,
    TestedSetting,
    TestResult,
    Verdict,
)


def read_verdict(text: str) -> Verdict:
    """The inverse of `Verdict.to_json`; raises `UserError` for another version's text or a damaged one."""
    try:
        content = json.loads(text)
        version = content["format"]
        if version == FORMAT:
            return _checked(_verdict(**content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{CONFIRM_FILE} is damaged ({type(error).__name__}: {error})") from None
    raise UserError(f"{CONFIRM_FILE}: written by another version (format {version}, not {FORMAT})")


def _verdict(settings: list[dict[str, Any]], test: dict[str, Any] | None, **others: Any) -> Verdict:
    return Verdict(
        settings=[ConfirmedSetting(**one | {"gain": Estimate(**one["gain"])}) for one in settings],
        test=None if test is None else _test_result(**test),
        **others,
    )


def _test_result(settings: list[dict[str, Any]], gain: dict[str, Any], **others: Any) -> TestResult:
    return TestResult(settings=[TestedSetting(**one) for one in settings], gain=Estimate(**gain), **others)


def _checked(verdict: Verdict) -> Verdict:
    tested = verdict.test.settings if verdict.test else []
    values = [one.val_accuracy for one in verdict.settings]
    values += [those for one in tested for those in (one.accuracy, one.loss)]
    lengths = {len(those) for those in values} | {len(one.states) for one in verdict.settings}
    if lengths != {len(verdict.seeds)}:
        raise ValueError("there must be a value for each seed")
    if not all(value is None or math.isfinite(value) for those in values for value in those):
        raise ValueError("a value is not finite")
    if sum(one.is_seed_setting for one in verdict.settings) != 1:
        raise ValueError("one of the settings must be the seed's")
    return verdict
