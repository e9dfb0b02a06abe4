"""The report: what a run's labels are worth, in words and tables that a person enjoys reading.

`report_blocks` says it once; `report_text` writes it as plain text, `nbannot.displays.report` as HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbannot.models.prices import charged_in, stored_prices
from nbannot.page.blocks import Block, Bullets, Facts, Heading, Para, Section, page_text
from nbannot.page.digits import count, duration, emissions, energy, money
from nbannot.record import folder
from nbannot.report.fields import field_section
from nbannot.report.headline import NO_BANDS, Band, look_blocks, more_labels, verdict, without_any_answer
from nbannot.report.looks import test_half_blocks
from nbannot.report.words import (
    model_notes,
    plural,
    settings_refused,
    settings_shown,
    state_of,
    statuses,
    where_texts_went,
    why_failed,
)
from nbannot.tools.files import read_json

if TYPE_CHECKING:
    from nbannot.record.run import Run
    from nbannot.record.scoring import Scored
    from nbannot.study.field import Field


def report_text(run: Run) -> str:
    """Return the text of ``classification_reports.txt``: lines of at most 110 characters."""
    return page_text(report_blocks(run))


def report_blocks(run: Run, field: str | None = None, bands: Mapping[str, Band] = NO_BANDS) -> list[Block]:
    """Return what there is to say of a run: what it comes to, one section per field, the intervals, how it was made.

    Parameters
    ----------
    field
        Name or column of the one field to report on; every field that was asked if ``None``.
    bands
        column -> what people reach with each other.
    """
    shown = run.coding.fields if field is None else [asked_field(run, field)]
    if without_any_answer(run):  # tables of zeros would look like scores
        shown = []
    labelled = run.task.has_human_labels and bool(shown)
    return [
        Heading(f"Report on {run.task.name}: {model_name(run)}", 1, aside=f"run {run.run_id}"),
        *corpus_blocks(run),
        Para(verdict(run), "verdict"),
        *(Para(note, "notice") for note in model_notes(run.config)),
        *(Para(notice, "notice") for notice in run.task.notices),
        *status_blocks(run),
        *(look_blocks(run, bands) if field is None else []),
        *(field_section(run, f, opened=place == 0) for place, f in enumerate(shown)),
        *(test_half_blocks(run) if field is None and shown else []),
        *([Section("What the intervals cover", [Bullets(covered(run), "quiet")])] if labelled else []),
        Section("How the run was made", [Facts([*head_facts(run), *cost_facts(run)])]),
    ]


def asked_field(of: Scored, name: str) -> Field:
    """Return the field of this name or column, which must have been asked.

    Raises
    ------
    CodebookError
        If the codebook has no such field.
    ScoringError
        If it was not asked.
    """
    return of.coding.asked(name)


def covered(run: Run) -> list[str]:
    """Return what the intervals cover and what they do not."""
    cluster = run.scores.settings.get("cluster")
    together = (
        f"Texts with the same {cluster} were resampled together."
        if cluster
        else "Texts are taken as independent: where several come from one document or author, score with cluster= that "
        "column, or the intervals are too narrow."
    )
    return [
        "The intervals say how far the numbers would move with other texts of the same kind. They do not cover chance "
        "in the model or the wording of the prompt (repeat the run, vary the prompt), nor errors in the human labels.",
        "They hold for a corpus only if the labelled texts are a random sample of it; otherwise they describe these "
        f"texts only. {together}",
        *([f"{more}, drawn like these."] if (more := more_labels(run)) else []),
        "A run that was chosen because it scored best on these texts scores too well here: judge it on texts that "
        "played no part in the choice.",
    ]


def status_blocks(run: Run) -> list[Block]:
    """Return a warning where a run is not complete: what is open, why, and how to go on."""
    state, go_on = state_of(run)
    if not go_on:
        return []
    why = "; ".join(why_failed(run))
    reasons = f" Calls without a reply: {why}." if why else ""
    return [Para(f"This run is {state}.{reasons} {go_on}", "warning")]


def corpus_blocks(run: Run) -> list[Block]:
    """Return what is to be said of a corpus before the scores of its coded texts; nothing for a task."""
    about = run.config.get("corpus")
    if not isinstance(about, dict):
        return []
    again, asked = about["n_duplicates"], about["n_texts"] - about["n_duplicates"]
    words = f"A corpus of {plural(about['n_texts'], 'text')}"
    if again:
        words += (
            f", of which {count(again)} {'is' if again == 1 else 'are'} the same as an earlier one: {count(asked)} "
            "were asked about, and the others have the labels of the first that is the same"
        )
    coded = (
        "none of them was coded by people"
        if not len(run.task)
        else f"scored on the {count(len(run.task))} that people coded"
    )
    return [
        Para(f"{words}; {coded}.", "notice"),
        *(Para(notice, "notice") for notice in about.get("notices", ())),
    ]


def head_facts(run: Run) -> list[tuple[str, str]]:
    """Return what was run, on what, when, with which settings."""
    config = run.config
    fields = run.coding.fields
    return [
        ("run", f"{run.run_id}, {run.model_id}"),
        ("model", model_words(run)),
        ("texts", f"{count(run.n_texts)} × {plural(len(fields), 'field')}; {statuses(run.by_status)}"),
        ("status", state_of(run)[0]),
        ("date", _date(run)),
        ("settings", ", ".join(f"{name} = {value}" for name, value in settings_shown(config))),
        *settings_refused(config),
    ]


def model_name(run: Run) -> str:
    """Return the model as people say it: its name, and its size where that is known."""
    info, name = _info_and_name(run)
    size = info.get("parameters")
    return f"{name} ({size})" if size and str(size).lower() not in name.lower() else name


def model_words(run: Run) -> str:
    """Return the model with size, quantisation and the beginning of its digest, as far as they are known."""
    info, name = _info_and_name(run)
    digest = info.get("digest")
    more = [info.get("parameters"), info.get("quantization"), digest and digest[:19]]
    return ", ".join([name, *(str(part) for part in more if part)])


def _info_and_name(run: Run) -> tuple[dict[str, Any], str]:
    """Return what the run recorded of its model, and the model's name, the served one where the setting lacks it."""
    info = run.config.get("model_info") or {}
    name = str(run.config["model"])
    if info.get("name") and info["name"] not in name:
        name = f"{info['backend']}/{info['name']}"
    return info, name


def _date(run: Run) -> str:
    date = str(run.config.get("last_call") or run.config.get("created") or "")
    return (
        date[:16].replace("T", " ") + (" UTC" if date.endswith("+00:00") else "") if date else "not recorded"
    )


def cost_facts(run: Run) -> list[tuple[str, str]]:
    """Return where the texts went, and the time and energy it took."""
    timing, spent = run.timing, run.energy
    n = timing.get("inference_count") or 0
    batched = read_json(run.folder / folder.CHARS).get("batch_calls") or 0
    calls = f"{plural(n, 'call')} in {duration(timing.get('wall_time'))}"
    if batched:
        calls = f"{plural(n, 'call')}, {count(batched)} of them by batch, which has no time of its own"
    if n and timing.get("total_inference_time") is not None:
        calls += f", {duration(timing['total_inference_time'] / n)} each"
    if timing.get("retry_count"):
        calls += f", {plural(timing['retry_count'], 'retry', 'retries')}"
    used = "not measured"
    if "total_energy_kwh" in spent:
        used = f"{energy(spent['total_energy_kwh'])}, {emissions(spent['total_emissions_kg'])}"
    if apart := spent.get("by_model"):
        names = {"decider": "decision model", "text_model": "text model"}
        used += f" ({', '.join(f'{names[name]} {energy(kwh)}' for name, kwh in apart.items())})"
    words = str(run.config.get("energy") or "")
    if words.startswith("not measured"):
        used = words
    elif words and "total_energy_kwh" in spent:
        used = f"{used} ({words})"
    return [
        ("texts went", where_texts_went(run.config)),
        *((("personal data", words),) if (words := str(run.config.get("personal_data") or "")) else ()),
        ("time", calls),
        *_money(run),
        ("energy", used),
    ]


def _money(run: Run) -> list[tuple[str, str]]:
    """Return what the tokens cost and by which prices, or what was charged; nothing where that is not known."""
    counts = read_json(run.folder / folder.CHARS)
    if (charged := charged_in(run.config, counts)) is not None:
        return [("money", f"{money(charged, 'US$')} (as the provider's replies say it has charged)")]
    prices, untold = stored_prices(run.config), counts.get("untold_answers")
    cost = None if prices is None else prices.of_run(counts, at_least=True)
    if prices is None or cost is None:
        return []
    if untold:
        answers = plural(untold, "answer")
        cost_words = f"at least {money(cost, prices.currency)}: {answers} came without a count of tokens"
        return [("money", f"{cost_words} ({prices.source})")]
    return [("money", f"{money(cost, prices.currency)} ({prices.source})")]
