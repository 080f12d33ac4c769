"""One page that needs nothing but itself: `report.html`, with its pictures inside."""

import base64
import io
import re
from collections.abc import Mapping, Sequence

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from analysis.confirmation import interval_of
from analysis.sections import Section
from analysis.trials import Experiment
from analysis.words import count

SHOWN_ROWS = 20
LONG_TABLES = {"progress", "slots"}  # pictures say it better; the files have them
WIDE = 8.0  # inches from which a picture is panned on a phone, not shrunk
HEADINGS = {
    "is_seed_setting": "seed's", "last_val_accuracy": "last accuracy", "confirmed_mean": "fresh seeds",
    "confirm_seeds": "seeds",
}  # fmt: skip
INTERVALS = {  # of a table's estimates; on the page they share a cell
    "ranking": {"score": ("low", "high"), "confirmed_mean": ("confirmed_low", "confirmed_high")},
    "confirmation": {name: interval_of(name) for name in ("mean", "gain", "test_accuracy", "test_gain")},
    "comparison": {
        "best": ("low", "high"),
        "confirmed": interval_of("confirmed"),
        "confirmed_gain": interval_of("confirmed_gain"),
    },
    "importance": {"importance": ("low", "high")},
    "rungs": {"rho": ("low", "high")},
}
FLAG = re.compile("--[a-z][a-z-]+")
SHARES = {
    "importance", "score", "last_val_accuracy", "low", "high", "gain", "epoch_share", "covered", "best", "seed_setting",
    "search_score", "mean", "shrinkage", "gain_low", "gain_high", "val_accuracy", "test_accuracy", "test_accuracy_low",
    "test_accuracy_high", "test_gain", "test_gain_low", "test_gain_high", "confirmed", "confirmed_mean",
    "confirmed_low", "confirmed_high", "confirmed_gain", "confirmed_gain_low", "confirmed_gain_high",
}  # fmt: skip
TABLES_OF_VALUES = {"top_settings", "rungs"}  # whose low, high and best are no accuracies


def render(
    title: str, subtitle: str, sections: Sequence[Section], pictures: Mapping[str, bytes], facts: Mapping[str, str]
) -> str:
    """The page as text.

    Args:
        title: the experiment's name, or several.
        subtitle: how far the search is.
        sections: the answers, in order.
        pictures: PNG files of all their figures, by name.
        facts: what was run, for the page's end.
    """
    environment = Environment(loader=PackageLoader("analysis"), autoescape=True, undefined=StrictUndefined)
    environment.filters["flags"] = with_flags_whole
    return environment.get_template("report.html.j2").render(
        title=title, subtitle=subtitle, sections=[_shown(section, pictures) for section in sections], facts=facts
    )


def with_flags_whole(sentence: str) -> Markup:
    """The sentence as HTML that never breaks a line within a flag, which a browser does after `--`."""
    return Markup(FLAG.sub(r"<code>\g<0></code>", str(escape(sentence))))


def _shown(section: Section, pictures: Mapping[str, bytes]) -> dict[str, object]:
    return {
        "question": section.question,
        "sentences": section.sentences,
        "figures": [_image(pictures[name], figure, caption) for name, (figure, caption) in section.figures.items()],
        "tables": [_table(name, table) for name, table in section.tables.items() if name not in LONG_TABLES],
    }


def _image(picture: bytes, figure: Figure, caption: str) -> dict[str, object]:
    width = figure.get_figwidth()
    data = base64.b64encode(picture).decode("ascii")
    return {"caption": caption, "data": data, "wide": width > WIDE, "width": round(96 * width)}


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _table(name: str, table: pd.DataFrame) -> dict[str, object]:
    """The first rows as text; `note` says how many more there are."""
    first = table.head(SHOWN_ROWS)
    as_share = set() if name in TABLES_OF_VALUES else SHARES
    shown = pd.DataFrame({column: [cell(value, column in as_share) for value in first[column]] for column in first})
    for estimate, (low, high) in INTERVALS.get(name, {}).items():
        if estimate in shown:
            shown[estimate] = [_with_interval(*texts) for texts in shown[[estimate, low, high]].to_numpy()]
            shown = shown.drop(columns=[low, high])
    rest = len(table) - len(first)
    headings = [HEADINGS.get(str(column), str(column).replace("_", " ")) for column in shown]
    note = f"{rest:,} more in tables/{name}.csv" if rest else ""
    return {"name": name, "headings": headings, "rows": shown.to_numpy().tolist(), "note": note}


def _with_interval(estimate: str, low: str, high: str) -> str:
    return f"{estimate} ({low.removesuffix(' %')} to {high})" if low else estimate


def cell(value: object, is_share: bool = False) -> str:
    """A value as text: shares in percent, other fractions to 3 digits, nothing where there is none."""
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{100 * value:.1f} %" if is_share else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def progress_line(experiment: Experiment) -> str:
    """How far the search is."""
    asked = max(len(experiment.trials), int(experiment.plan["search"]["num_samples"]))
    if experiment.unfinished:
        ended = asked - experiment.unfinished
        return f"{ended:,} of {count(asked, 'trial')} have ended: the search is running, or was interrupted."
    return f"Finished: all {count(asked, 'trial')} have ended."


def facts_of(experiment: Experiment) -> dict[str, str]:
    """What was run, without anything about the machine but its kind."""
    train, search, space = experiment.plan["train"], experiment.plan["search"], experiment.space
    packages = experiment.plan.get("packages") or {}
    return {
        "data": f"{train['dataset']}, {train['train_size'] or 'all other'} training and {train['val_size']} validation "
        "images",
        "network": f"ResNet-C at width {train['width']:g}, batches of {train['batch_size']}, {train['epochs']} epochs",
        "space": f"max_lr {space.max_lr[0]:.3g} to {space.max_lr[1]:.3g}, l1_factor {space.l1_factor[0]:.3g} to "
        f"{space.l1_factor[1]:.3g}, peak_epoch {space.peak_epoch[0]} to {space.peak_epoch[1]}",
        "search": f"searcher {search['searcher']}, scheduler {search['scheduler']}, "
        f"rungs after epochs {', '.join(map(str, experiment.rungs)) or 'none'}, seed {train['seed']}",
        "trial": f"{search['cpus_per_trial']} CPU(s) and {experiment.gpus_per_trial:g} GPU(s) each",
        "code": f"revision {experiment.plan.get('git_revision') or 'unknown'}",
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }
