"""Models that decide, from the codebook to the scored run: in process, over HTTP in both shapes, and misbehaving."""

from __future__ import annotations

import json
import math
import os
import shutil
from importlib.metadata import EntryPoint

import polars as pl
import pytest
from conftest import DEGREE, GATE, MARKS, QUOTE, STANCE, codebook_of, task_of
from deciding import Deciding, Maker, share_of
from odd_options import outside_the_codebook

import nbannot
from nbannot.asking.decisions import Reading, compose_questions, decided, read_decisions, typed_questions
from nbannot.asking.ledger_lines import read_lines
from nbannot.asking.request_reply import Decision, ModelInfo, Question
from nbannot.engine.energy import Meter
from nbannot.errors import ConfigError, ModelError
from nbannot.models import decide_limits as fit
from nbannot.models import registry
from nbannot.models.decide_local import Sparrow
from nbannot.models.decide_wire import read_answer, read_answers

TOPIC = {
    "name": "Topic",
    "type": "dropdown",
    "options": ["road", "tax", "other"],
    "option_descriptions": {"road": "streets and traffic", "tax": "money to the state"},
}
TERM = {"name": "Term", "type": "checkbox", "tooltip": "Is a date named?"}
EVERY = (GATE, STANCE, DEGREE, TOPIC, TERM)


@pytest.fixture(autouse=True)
def _entry_points(monkeypatch):
    """The backends, with or without the entry point installed."""
    known = dict(registry.backends())
    known["decide"] = EntryPoint("decide", "nbannot.models.decide:DecideModel", registry.GROUP)
    monkeypatch.setattr(registry, "backends", lambda: known)
    for name in ("NBANNOT_API_KEY", "OPENAI_API_KEY", "TYPESAFE_API_KEY", "TYPESAFE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def run_at(server, task, tmp_path, **settings):
    settings = {"model": "decide/some", "base_url": server.url, "output_root": str(tmp_path), **settings}
    return nbannot.run(task, **settings)


def calls(run):
    return [record for record in read_lines(run.folder / "responses.jsonl") if "text_id" in record]


def value_of(field, text):
    """The label that the server's probabilities mean, worked out apart from the code under test."""
    labels = list(map(str, field.labels)) if field.type != "checkbox" else ["false", "true"]
    shares = share_of(text, field.name, labels)
    return int(shares[1] >= 0.5) if field.type == "checkbox" else field.labels[shares.index(max(shares))]


# ---- a table of makers ----------------------------------------------------------------------------------------------


def rounded(reply, request):
    """OpenRouter rounds to two decimals and adds who served."""
    for one in reply["answers"].values():
        if "noul" in one:
            one["noul"] = round(one["noul"], 2)
        else:
            one["probabilities"] = {name: round(p, 2) for name, p in one["probabilities"].items()}
    return {**reply, "id": "dec-1", "provider": "TypeSafe", "usage": {**reply["usage"], "cost": 0.0001}}


def plain_lists(reply, request):
    """A local server that gives bare lists, and no confidence."""
    for one in reply["answers"].values():
        if "probabilities" in one:
            one["probabilities"] = list(one["probabilities"].values())
            one.pop("confidence")
    return reply


ONE, TWO = {"/v1/systemone": "systemone"}, {"/v1/decisions": "decisions"}
MAKERS = {
    "typesafe": (Maker(ONE, status=422, words=lambda why: {"detail": [{"loc": ["body"], "msg": why}]}), ""),
    "openai": (Maker(TWO, model="gpt-6-luna"), "/v1"),
    "openrouter": (Maker({"/api/v1/systemone": "systemone"}, change=rounded), "/api/v1"),
    "openrouter alpha": (Maker({"/api/alpha/decisions": "systemone"}, change=rounded), "/api/alpha"),
    "fireworks": (Maker({"/inference/v1/systemone": "systemone"}, options=208), "/inference/v1/systemone"),
    "fireworks, OpenAI's shape": (
        Maker({"/inference/v1/decisions": "decisions"}, options=208),
        "/inference/v1",
    ),
    "upstage": (Maker(ONE, options=26), "/v1"),
    "sglang, chat model": (
        Maker(TWO, words=lambda why: {"object": "error", "message": why, "code": 400}),
        "/v1",
    ),
    "llama.cpp": (Maker(ONE, model=None, change=plain_lists), "/v1"),
    "local, without /v1": (Maker({"/systemone": "systemone"}, levels=255), ""),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_maker_answers_all_closed_fields_of_a_text_in_one_call(name, tmp_path):
    maker, place = MAKERS[name]
    task = task_of(6, codebook_of(*EVERY))
    with Deciding(maker) as server:
        run = run_at(server, task, tmp_path, base_url=server.url + place)
    book = task.codebook
    for f in book:
        for row, text in enumerate(task.texts):
            found = run.coding.answers[f.column][row]
            if f.name == "Stance" and not value_of(book["Gate"], text):
                assert found.status == "not_applicable"
            else:
                assert (found.status, found.value) == ("ok", value_of(f, text)), f.column
                assert math.isclose(sum(found.probabilities), 1)
    of_study = [seen for seen in maker.seen if seen["text"] in task.texts]
    gates = sum(value_of(book["Gate"], text) for text in task.texts)
    assert 0 < gates < 6
    assert len(of_study) == 6 + gates == len(calls(run)), (
        "one call per text, one more where the condition holds"
    )
    assert {len(seen["questions"]) for seen in of_study} == {4, 1}
    one = next(record for record in calls(run) if len(record["columns"]) == 4)
    assert one.get("model") == maker.model
    assert one["input_tokens"] == len(next(t for i, t in zip(task.ids, task.texts, strict=True)
                                          if i == one["text_id"])) // 4  # fmt: skip
    assert set(one["decisions"]) == set(one["columns"])
    if name == "typesafe":
        kept = one["decisions"]["S_Topic"]
        assert kept["confidence"] == 0.123
        assert 0.123 not in kept["probabilities"], "a maker's confidence is no probability"
    loaded = nbannot.load_run(run.folder)
    assert loaded.coding.answers == run.coding.answers


# ---- misbehaving ---------------------------------------------------------------------------------------------------


def one_answer(change):
    """Return a change of the answer to Topic in a System One reply."""

    def changed(reply, request):
        if "Topic" in reply["answers"]:
            made = change(reply["answers"].pop("Topic"))
            if made is not None:
                reply["answers"]["Topic"] = made
        return reply

    return changed


def shares(*numbers, names=("road", "tax", "other")):
    return lambda one: {**one, "probabilities": dict(zip(names, numbers, strict=True))}


FAULTS = {
    "missing answer": (lambda one: None, "invalid", "the reply has no answer to this question"),
    "sum": (shares(0.5, 0.3, 0.3), "invalid", "probabilities sum to 1.1"),
    "almost nothing": (shares(0, 0, 0), "invalid", "probabilities sum to 0"),
    "rounded": (shares(0.2, 0.49, 0.3), "ok", ("tax", 0.49 / 0.99)),
    "NaN": (shares(0.5, float("nan"), 0.5), "invalid", "the probability of 'tax' is nan"),
    "infinite": (shares(0.5, float("inf"), 0.5), "invalid", "the probability of 'tax' is inf"),
    "null": (shares(0.5, None, 0.5), "invalid", "the probability of 'tax' is None"),
    "words": (shares(0.5, "0.2", 0.3), "invalid", "the probability of 'tax' is '0.2'"),
    "negative": (shares(0.7, -0.2, 0.5), "invalid", "the probability of 'tax' is -0.2"),
    "true": (shares(True, 0, 0), "invalid", "the probability of 'road' is True"),
    "capitals": (shares(0.1, 0.8, 0.1, names=("ROAD", " Tax", "other")), "ok", ("tax", 0.8)),
    "another name": (
        shares(0.1, 0.8, 0.1, names=("road", "taxes", "other")),
        "invalid",
        "the reply names an option that was not asked: \"taxes\"",
    ),
    "an option left out": (
        shares(0.1, 0.9, names=("road", "tax")), "invalid", "the reply has no probability of 'other'"
    ),
    "twice": (shares(0.1, 0.8, 0.1, names=("road", "tax", "TAX")), "invalid", "the reply names an option twice"),
    "only a choice": (lambda one: {"type": "choice", "choice": "tax"}, "ok", ("tax", None)),
    "an outside choice": (lambda one: {"type": "choice", "choice": "war"}, "invalid", 'not an option: "war"'),
    "a choice against its probabilities": (
        lambda one: {**shares(0.1, 0.8, 0.1)(one), "choice": "road"}, "ok", ("tax", 0.8)
    ),
    "tied": (lambda one: {**shares(0.4, 0.2, 0.4)(one), "choice": "other"}, "ok", ("other", 0.4)),
    "no object": (lambda one: "tax", "invalid", 'the answer is no object: "tax"'),
    "an error of its own": (
        lambda one: {"error": "overloaded"}, "invalid", 'the server could not answer this question: "overloaded"'
    ),
    "refusal": (lambda one: {"type": "refusal"}, "refused", "the model declined to answer this question"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_one_bad_answer_is_named_and_costs_the_others_nothing(name, tmp_path):
    change, status, expected = FAULTS[name]
    with Deciding(Maker(ONE, change=one_answer(change))) as server:
        run = run_at(server, task_of(2, codebook_of(TOPIC, TERM)), tmp_path)
    assert [a.status for a in run.coding.answers["S_Term"]] == ["ok", "ok"]
    assert run.status == "complete"
    for found in run.coding.answers["S_Topic"]:
        assert found.status == status
        if status == "ok":
            value, share = expected
            assert found.value == value
            told = found.probabilities and found.probabilities[["road", "tax", "other"].index(value)]
            assert told == pytest.approx(share) if share is not None else told is None
        else:
            assert found.reason == expected
    assert len(calls(run)) == 2, "asking a decision model again changes nothing"


LIES = {
    "negative": {"input_tokens": -5},
    "words": {"input_tokens": "many"},
    "true": {"input_tokens": True},
    "absurd": {"input_tokens": 10**30},
    "gone": None,
    "a list": [1, 2],
}


@pytest.mark.parametrize("name", LIES)
def test_usage_that_is_no_count_is_no_count(name, tmp_path):
    with Deciding(Maker(ONE, change=lambda reply, request: {**reply, "usage": LIES[name]})) as server:
        run = run_at(server, task_of(1, codebook_of(TERM)), tmp_path)
    assert calls(run)[0]["input_tokens"] is None
    assert run.coding.answers["S_Term"][0].status == "ok"


def test_too_many_options_are_asked_in_two_rounds_and_levels_as_a_choice(tmp_path):
    wide = {"name": "Party", "type": "dropdown", "options": [f"party {i}" for i in range(60)]}
    long = {"name": "Mood", "type": "likert", "min_value": 0, "max_value": 14}
    maker = Maker(ONE, options=26, levels=10)
    task = task_of(5, codebook_of(wide, long, TERM))
    with Deciding(maker) as server:
        run = run_at(server, task, tmp_path, max_parallel=1)
    for f in task.codebook:
        assert [a.status for a in run.coding.answers[f.column]] == ["ok"] * 5
    # 60 options are three groups of 20: options of a group keep their ratios, and so do the winners of round two.
    for text, found in zip(task.texts, run.coding.answers["S_Party"], strict=True):
        groups = [wide["options"][i : i + 20] for i in (0, 20, 40)]
        within = [share_of(text, f"Party ({i})", group) for i, group in enumerate(groups, 1)]
        best = [group[s.index(max(s))] for group, s in zip(groups, within, strict=True)]
        between = share_of(text, "Party", best)
        weights = [p / max(s) * q for s, q in zip(within, between, strict=True) for p in s]
        assert found.probabilities == pytest.approx([weight / sum(weights) for weight in weights])
        assert found.value == best[between.index(max(between))], (
            "the winner of the second round is the answer"
        )
    told = run.config["capabilities"]
    assert told["limits"] == {"options": 26, "levels": 10}
    assert told["asked_in_two_rounds"] == ["S_Party"]
    refused = [s for s in maker.seen if any(len(q["options"]) > 26 for q in s["questions"])]
    assert len(refused) == 1, "a limit is learned once"


def test_two_rounds_give_a_softmax_its_own_probabilities_back():
    weights = {"a": 7.39, "b": 6.69, "c": 8.17, "d": 0.01, "e": 3.0}
    question = Question("S_A", "A", "choice", "Which?", tuple(weights), ("",) * 5)

    def told(part):
        own = [weights[name] for name in part.options]
        return Decision(tuple(weight / sum(own) for weight in own))

    groups = fit.parts(question, 3)
    made = {part.column: told(part) for _, part in groups}
    places, last = fit.winners(question, groups, made)
    assert [question.options[place] for place in places] == ["a", "c"]
    both = fit.combined(question, groups, made, told(last).probabilities)
    assert both.probabilities == pytest.approx(
        [weight / sum(weights.values()) for weight in weights.values()]
    )
    assert both.choice == 2
    assert max(both.probabilities) == both.probabilities[2]


@pytest.mark.parametrize(
    "words",
    [
        "the request has {n} questions, which exceeds the maximum of 2 questions",
        "the input is too large: it exceeds the limit of 2 questions per request",
    ],
)
def test_a_refusal_of_too_many_questions_is_none_of_the_text(words, tmp_path):
    maker = Maker(ONE, questions=2, words=lambda why: {"error": {"message": words.format(n=5)}})
    fields = [{"name": f"Q{i}", "type": "checkbox"} for i in range(5)]
    with Deciding(maker) as server:
        run = run_at(server, task_of(3, codebook_of(*fields)), tmp_path)
    assert run.coding.count() == {"ok": 15}
    assert run.config["capabilities"]["limits"] == {"questions": 2}


def test_a_refusal_of_long_words_teaches_no_limit_of_options(tmp_path):
    class Short(Deciding):
        def reply(self, path, body, key):
            if "Long" in body.get("questions", {}):
                return 400, {"error": {"message": "option text too long: at most 64 characters"}}
            return super().reply(path, body, key)

    long = {"name": "Long", "type": "dropdown", "options": ["x" * 300, "y", "z"]}
    with Short(Maker(ONE)) as server:
        run = run_at(server, task_of(3, codebook_of(long, TOPIC)), tmp_path)
    assert [a.status for a in run.coding.answers["S_Topic"]] == ["ok"] * 3
    assert {a.status for a in run.coding.answers["S_Long"]} == {"invalid"}
    assert "option text too long" in run.coding.answers["S_Long"][0].reason
    assert run.config["capabilities"]["limits"] == {"asked_apart": ["S_Long"]}


def test_answers_to_other_questions_and_two_to_one_are_not_taken():
    yes = Question("S_A", "Apt", "noul", "?", ("false", "true"), ("", ""))
    which = Question("S_B", "Which", "choice", "?", ("x", "y"), ("", ""))
    one, other = {"type": "predicate", "probability": 0.9}, {"type": "predicate", "probability": 0.1}
    twice = read_answers({"answers": [{"name": "Apt", **one}, {"name": "Apt", **other}]}, [yes])
    assert twice["S_A"].problem == "the reply answers this question twice, and not alike"
    same = read_answers({"answers": [{"name": "Apt", **one}, {"name": "Apt", **one}]}, [yes])
    assert same["S_A"].probabilities == pytest.approx((0.1, 0.9))
    exact = read_answers({"answers": {"apt": {"noul": 0.1}, "Apt": {"noul": 0.9}}}, [yes])
    assert exact["S_A"].probabilities == pytest.approx((0.1, 0.9)), "the exact name goes before one like it"
    choice = {"type": "choice", "probabilities": [0.2, 0.8], "probability": 0.3}
    turned = read_answers({"answers": [choice, {**one, "choice": "x"}]}, [yes, which])
    assert turned["S_A"].problem == "the answer is one to another question: a choice"
    assert turned["S_B"].problem == "the answer is one to another question: a predicate"


def test_a_scale_that_the_reply_tells_the_other_way_round_is_not_read_by_place():
    scale = Question("S_A", "A", "score", "?", ("1", "2", "3"), ("none", "", "a lot"))
    words, shares = ["1: none", "2", "3: a lot"], {"0": 0.7, "1": 0.2, "2": 0.1}
    one = {"type": "score", "probabilities": shares, "legend": dict(zip("012", words, strict=True))}
    assert read_answer(scale, one).probabilities == pytest.approx((0.7, 0.2, 0.1))
    assert read_answer(scale, {**one, "legend": {"0": "low", "1": "2"}}).probabilities, (
        "words of its own say nothing"
    )
    turned = read_answer(scale, {**one, "legend": dict(zip("012", reversed(words), strict=True))})
    assert turned.problem == 'the reply says that level "0" is "3: a lot", which was asked as another one'
    from_one = {**one, "probabilities": {"1": 0.7, "2": 0.2, "3": 0.1}}
    assert read_answer(scale, {**from_one, "legend": dict(zip("123", words, strict=True))}).probabilities
    listed = [{"value": i, "label": word, "probability": p} for i, (word, p) in
              enumerate(zip(reversed(words), shares.values(), strict=True))]  # fmt: skip
    assert "another one" in read_answer(scale, {"type": "score", "probabilities": listed}).problem


def test_more_questions_than_a_server_takes_go_in_several_calls(tmp_path):
    maker = Maker(ONE, questions=2)
    fields = [{"name": f"Q{i}", "type": "checkbox"} for i in range(5)]
    task = task_of(3, codebook_of(*fields))
    with Deciding(maker) as server:
        run = run_at(server, task, tmp_path, max_parallel=1)
    assert run.coding.count() == {"ok": 15}
    assert [len(s["questions"]) for s in maker.seen if s["text"] in task.texts] == [5] + [2, 2, 1] * 3
    assert len(calls(run)) == 3, "a text's line has all of its answers"
    assert calls(run)[0]["input_tokens"] == 3 * (len(task.texts[0]) // 4)


def test_a_question_that_a_server_refuses_is_named_and_sent_alone_from_then_on(tmp_path):
    class Picky(Deciding):
        def reply(self, path, body, key):
            if "Term" in body["questions"]:
                self.maker.seen.append({"text": body["state"], "questions": list(body["questions"])})
                return 400, {"error": {"message": "the word Term is not allowed"}}
            return super().reply(path, body, key)

    task = task_of(3, codebook_of(TOPIC, TERM))
    with Picky(Maker(ONE)) as server:
        run = run_at(server, task, tmp_path, max_parallel=1)
    assert [a.status for a in run.coding.answers["S_Topic"]] == ["ok"] * 3
    bad = run.coding.answers["S_Term"][0]
    assert bad.status == "invalid"
    assert bad.reason == "the server refuses this question: HTTP 400: the word Term is not allowed"


def test_a_text_that_is_too_long_is_not_asked_whatever_the_server_calls_it(tmp_path):
    task = nbannot.Task(
        pl.DataFrame({"id": ["a", "b"], "text": ["short", "long " * 50]}), codebook_of(TERM), "len"
    )
    with Deciding(Maker(ONE, characters=100)) as server:
        refusing = run_at(server, task, tmp_path / "1")

    def cut(reply, request):
        dropped = max(0, len(request["state"]) - 100)
        return {**reply, "usage": {**reply["usage"], "state_tokens_dropped": dropped}}

    with Deciding(Maker(ONE, change=cut)) as server:
        cutting = run_at(server, task, tmp_path / "2")
    for run in (refusing, cutting):
        found = run.coding.answers["S_Term"]
        assert [a.status for a in found] == ["ok", "not_asked"]
        assert found[1].reason.startswith("text does not fit: ")
        assert run.status == "complete"


def test_a_server_that_cuts_in_silence_is_suspected(tmp_path):
    def at_most(reply, request):
        return {**reply, "usage": {"input_tokens": min(512, len(request["state"]))}}

    frame = pl.DataFrame({"id": list("abcd"), "text": ["word " * n for n in (10, 200, 300, 400)]})
    with Deciding(Maker(ONE, change=at_most)) as server:
        run = run_at(server, nbannot.Task(frame, codebook_of(TERM), "cut"), tmp_path)
    assert run.config["capabilities"]["texts_may_be_cut"] == (
        "3 texts of 1,000 to 2,000 characters were all counted as 512 tokens"
    )


def test_a_change_of_version_is_in_every_line(tmp_path):
    numbers = iter(range(100))

    def versions(reply, request):
        return {**reply, "model": f"decider-1.{next(numbers) // 3}"}

    with Deciding(Maker(ONE, change=versions)) as server:
        run = run_at(server, task_of(4, codebook_of(TERM)), tmp_path, max_parallel=1)
    assert [record["model"] for record in calls(run)] == ["decider-1.0"] * 2 + ["decider-1.1"] * 2
    assert run.config["capabilities"]["served"] == {"decider-1.0": 2, "decider-1.1": 2}


def test_what_cannot_be_a_reply_fails_and_the_next_call_goes_on(tmp_path):
    """Nothing is lost and nothing made up: a failed call leaves no label, and the same call asks it again."""
    state = {"broken": True}

    def broken(reply, request):
        return b'{"answers": ' if state["broken"] and "number 1:" in request["state"] else reply

    task = task_of(3, codebook_of(TERM, TOPIC))
    with Deciding(Maker(ONE, change=broken)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
        run = run_at(server, task, tmp_path)
        assert [a.status for a in run.coding.answers["S_Term"]] == ["ok", "failed", "ok"]
        assert run.status == "partial"
        state["broken"] = False
        before = len(server.maker.seen)
        again = run_at(server, task, tmp_path)
        asked = [seen["text"] for seen in server.maker.seen[before:] if seen["text"] in task.texts]
    assert again.run_id == run.run_id
    assert again.status == "complete"
    assert asked == [task.texts[1]], "the two that were answered are not asked again"
    assert again.coding.answers["S_Topic"][0] == run.coding.answers["S_Topic"][0]


# ---- keys and addresses --------------------------------------------------------------------------------------------


def test_a_key_goes_to_its_own_host_only(tmp_path, monkeypatch):
    from nbannot.models.decide_server import DecisionServer

    for name, value in {"TYPESAFE_API_KEY": "t-1", "OPENAI_API_KEY": "o-1"}.items():
        monkeypatch.setenv(name, value)
    maker = Maker(ONE)
    with Deciding(maker) as server:
        run_at(server, task_of(1, codebook_of(TERM)), tmp_path / "1")
        assert {seen["key"] for seen in maker.seen} == {None}
        maker.key = "mine-0123456789"
        with pytest.raises(ModelError, match=r"wants a key.*\n.*NBANNOT_API_KEY_127_0_0_1"):
            run_at(server, task_of(1, codebook_of(TERM)), tmp_path / "2")
        monkeypatch.setenv("NBANNOT_API_KEY_127_0_0_1", "mine-0123456789")
        run_at(server, task_of(1, codebook_of(TERM)), tmp_path / "2")
        assert maker.seen[-1]["key"] == "Bearer mine-0123456789"
    assert DecisionServer("jev-1.13").key.key.reveal() == "t-1"
    assert DecisionServer("gpt-6-luna").key.key.reveal() == "o-1"
    assert DecisionServer("jev", base_url="https://typesafe.ai.example.com").key.key is None
    assert DecisionServer("jev", base_url="https://nottypesafe.ai").key.key is None


def test_what_no_server_has_says_what_to_type(tmp_path):
    task = task_of(1, codebook_of(TERM))
    with pytest.raises(ModelError, match=r'decide/wren is no model of this process.*\n.*base_url = "http'):
        nbannot.run(task, model="decide/wren", output_root=str(tmp_path))
    with pytest.raises(ModelError, match=r"a decision model needs a name"):
        nbannot.run(task, model="decide/", output_root=str(tmp_path))
    with Deciding(Maker({"/v1/chat/completions": "systemone"})) as server:
        with pytest.raises(ModelError, match=r"answers no decisions with the model 'some': HTTP 404"):
            run_at(server, task, tmp_path)
        gone = server.url
    with pytest.raises(ModelError, match=r"gives no answer"):
        nbannot.run(task, model="decide/some", base_url=gone, output_root=str(tmp_path))


# ---- the text model, thresholds, settings ---------------------------------------------------------------------------


def test_open_questions_go_to_the_text_model_or_are_not_asked_and_say_why(tmp_path):
    task = task_of(4, codebook_of(GATE, QUOTE, MARKS))
    with Deciding(Maker(ONE)) as server:
        lines = []
        alone = run_at(server, task, tmp_path, say=lines.append)
        both = run_at(server, task, tmp_path, text_model="mock")
    why = "a decision model answers no open questions, and the run has no text_model"
    assert {a.reason for a in alone.coding.answers["S_Quote"]} == {why}
    assert alone.status == "complete"
    assert f"S_Quote, S_Marks: not asked; {why}." in lines
    assert nbannot.load_run(alone.folder).coding.answers == alone.coding.answers
    assert both.coding.count() == {"ok": 12}
    assert alone.run_id != both.run_id
    assert both.config["model_info"]["details"]["text_model"]["full_name"] == "mock"
    assert both.config["identity"]["text_model"] == "mock"
    assert {tuple(r["columns"]): r.get("model") for r in calls(both)} == {
        ("S_Gate",): "decider-1.0", ("S_Quote",): "mock", ("S_Marks",): "mock"
    }  # fmt: skip
    counts = json.loads((both.folder / "char_counts.json").read_text())["by_model"]
    assert (counts["decider-1.0"]["calls"], counts["mock"]["calls"]) == (4, 8)


def test_the_energy_of_two_models_is_told_apart(tmp_path, monkeypatch):
    """The decision model is asked first, conditional fields included; then the text model."""
    monkeypatch.setattr(Meter, "kwh", lambda self: next(readings))
    task = task_of(6, codebook_of(GATE, STANCE, QUOTE, {**MARKS, "condition": STANCE["condition"]}))
    settings = {"model": "decide/sparrow", "text_model": "mock", "output_root": str(tmp_path)}
    readings = iter([1.0, 1.5, 4.5])
    run = nbannot.run(task, **settings)
    asked = [record["columns"] for record in calls(run)]
    texts = [number for number, columns in enumerate(asked) if columns[0] in ("S_Quote", "S_Marks")]
    assert min(texts) == len(asked) - len(texts)
    assert run.energy["by_model"] == {"decider": 0.5, "text_model": 3.0}
    assert "text model 3" in str(run.report())
    readings = iter([0.0, 0.25, 0.5])
    again = nbannot.run(task, **settings, fresh=True)
    assert again.energy["by_model"] == {"decider": 0.25, "text_model": 0.25}


def test_threshold_and_scale_are_settings_and_part_of_the_run(tmp_path):
    task = task_of(12, codebook_of(TERM, DEGREE))
    with Deciding(Maker(ONE)) as server:
        runs = {
            name: run_at(server, task, tmp_path, **settings)
            for name, settings in {
                "plain": {},
                "strict": {"threshold": 0.8},
                "all": {"threshold": 0},
                "expected": {"scale_answer": "rounded"},
            }.items()
        }
    assert len({run.run_id for run in runs.values()}) == 4
    yes = [share_of(text, "Term", ["false", "true"])[1] for text in task.texts]
    assert runs["strict"].coding.values("S_Term") == [int(p >= 0.8) for p in yes]
    assert runs["all"].coding.values("S_Term") == [1] * 12
    levels = [share_of(text, "Degree", ["-2", "-1", "0", "1", "2"]) for text in task.texts]
    means = [sum(i * p for i, p in enumerate(share)) for share in levels]
    assert runs["expected"].coding.values("S_Degree") == [-2 + math.floor(m + 0.5) for m in means]
    assert runs["plain"].coding.values("S_Degree") == [-2 + s.index(max(s)) for s in levels]
    table = runs["plain"].labels
    kept = table[table["column"] == "S_Degree"]["expected"].tolist()
    assert kept == pytest.approx([m - 2 for m in means]), "the expected level is kept beside the modal one"
    wide = runs["plain"].probabilities(wide=True)
    assert list(wide.columns) == ["text_id", "S_Term=0", "S_Term=1", *(f"S_Degree={i}" for i in range(-2, 3))]
    assert wide["S_Term=1"].tolist() == pytest.approx(yes)
    stored = pl.read_parquet(runs["plain"].folder / "probabilities.parquet")
    assert stored.height == 12 * 7 == len(runs["plain"].probabilities())


def test_settings_that_would_change_the_name_and_no_answer_are_refused(tmp_path):
    task = task_of(1, codebook_of(TERM))
    with Deciding(Maker(ONE)) as server:
        with pytest.raises(ConfigError, match=r"temperature = 0.7, prompt_type = 'persona'"):
            run_at(server, task, tmp_path, temperature=0.7, prompt_type="persona")
        with pytest.raises(ConfigError, match=r"chat_mode = 'per_text'"):
            run_at(server, task, tmp_path, chat_mode="per_text", text_model="mock")
        with pytest.raises(ConfigError, match="none of them is asked"):
            run_at(server, task_of(1, codebook_of(QUOTE)), tmp_path)
        for writer in ("decide/sparrow", "baseline/majority"):
            with pytest.raises(ConfigError, match=rf"text_model = '{writer}' writes no texts"):
                run_at(server, task_of(1, codebook_of(TERM, QUOTE)), tmp_path, text_model=writer)
    with pytest.raises(ConfigError, match=r"threshold = 0.7: only scored answers have probabilities"):
        nbannot.run(task, model="mock", threshold=0.7, output_root=str(tmp_path))


def test_calibration_is_asked_for_and_asks_each_field_alone(tmp_path):
    task = task_of(40, codebook_of(TOPIC, TERM))
    maker = Maker(ONE)
    with Deciding(maker) as server:
        run = run_at(server, task, tmp_path, calibration="batch")
    assert {len(seen["questions"]) for seen in maker.seen} == {1}
    every = [share_of(text, "Topic", TOPIC["options"]) for text in task.texts]
    means = [sum(column) / 32 for column in zip(*every[:32], strict=True)]
    corrected = [[p / m for p, m in zip(share, means, strict=True)] for share in every]
    assert run.coding.values("S_Topic") == [TOPIC["options"][c.index(max(c))] for c in corrected]
    assert run.config["calibration_used"] == "batch"


# ---- the questions -------------------------------------------------------------------------------------------------


def test_the_codebook_speaks_in_criteria_and_every_word_changes_the_prompt_hash(tmp_path):
    book = codebook_of(TOPIC, TERM, DEGREE)
    assert json.loads(compose_questions(book.fields).before) == {
        "questions": {
            "Topic": {
                "type": "choice",
                "instructions": "Read.\nTopic",
                "criteria": {"road": "streets and traffic", "tax": "money to the state", "other": None},
            },
            "Term": {"type": "noul", "instructions": "Read.\nTerm: Is a date named?"},
            "Degree": {
                "type": "score",
                "instructions": "Read.\nDegree",
                "criteria": ["-2", "-1", "0", "1", "2"],
            },
        }
    }
    points = {**DEGREE, "point_descriptions": {"-2": "much worse", "2": "much better"}}
    named = {**GATE, "option_descriptions": {"1": "a judgement", "0": "none"}}
    degree, gate = typed_questions(codebook_of(points, named).fields)
    assert degree.descriptions == ("much worse", "", "", "", "much better")
    assert gate.descriptions == ("none", "a judgement")
    changed = [
        codebook_of(TOPIC),
        codebook_of({**TOPIC, "options": ["tax", "road", "other"]}),
        codebook_of({**TOPIC, "options": ["road", "tax", "rest"]}),
        codebook_of({**TOPIC, "option_descriptions": {"road": "streets"}}),
        codebook_of({**TOPIC, "name": "Theme"}),
    ]
    with Deciding(Maker(ONE)) as server:
        plans = [
            nbannot.plan(task_of(2, b), model="decide/some", base_url=server.url, output_root=str(tmp_path))
            for b in changed
        ]
        assert len({plan.run_id for plan in plans}) == len({plan.design.prompt_hash for plan in plans}) == 5
        assert plans[0].calls_at_most == 2
        shown = plans[0].first_messages["S_Topic"][0]["content"]
    assert shown == compose_questions(changed[0].fields).before + task_of(2).texts[0]


def test_two_fields_of_one_name_are_told_apart():
    first, second = {"name": "Tone", "type": "checkbox"}, {"name": "Tone", "type": "checkbox"}
    from nbannot.study.codebook import Codebook

    sections = {
        f"section_{i}": {"section_name": name, "annotations": {"annotation_1": one}}
        for i, (name, one) in enumerate([("A", first), ("B", second)], 1)
    }
    book = Codebook.from_dict({"text_column": "text", **sections})
    assert [q.name for q in typed_questions(book.fields)] == ["A_Tone", "B_Tone"]


def test_the_tie_of_a_scale_goes_to_the_level_nearest_its_middle():
    book = codebook_of(DEGREE)
    made = {"S_Degree": Decision(probabilities=(0.3, 0.05, 0.3, 0.05, 0.3))}
    assert read_decisions(book.fields, made, Reading())["S_Degree"].value == 0


def test_score_answers_are_read_by_place_number_or_words():
    scale = Question("S_A", "A", "score", "?", ("1", "2", "3"), ("low", "", "high"))
    for names in (("0", "1", "2"), ("1", "2", "3"), ("1: low", "2", "3: high")):
        found = read_answer(
            scale, {"score": 1.1, "probabilities": dict(zip(names, (0.2, 0.5, 0.3), strict=True))}
        )
        assert found.probabilities == pytest.approx((0.2, 0.5, 0.3)), names
    assert read_answer(scale, {"score": 1.1}) == Decision(score=1.1)
    book = codebook_of({"name": "A", "type": "likert", "min_value": 1, "max_value": 3})
    only = {"S_A": Decision(score=1.6)}
    assert (
        read_decisions(book.fields, only, Reading())["S_A"].reason
        == "the reply has no probability per option"
    )
    assert read_decisions(book.fields, only, Reading(scale="rounded"))["S_A"].value == 3
    assert read_answers({"answers": None}, [scale]) == {}
    assert decided(scale, [0.2, 0.5]).problem == "2 probabilities for 3 options"


# ---- in process ----------------------------------------------------------------------------------------------------


def test_no_name_of_an_option_makes_sparrow_leave_the_codebook():
    """Every answer is in the codebook and sums to 1; bench/bench_decide.py asks 10,000 of these questions."""
    pytest.importorskip("sparrow_decider", reason="no such extra here")
    assert outside_the_codebook(480) == 0


def test_sparrow_runs_resumes_and_never_answers_to_a_part_of_a_text(tmp_path):
    pytest.importorskip("sparrow_decider", reason="no such extra here")
    texts = ["The tax is a good idea.", "too long to be read whole " * 200, ""]
    frame = pl.DataFrame({"id": list("abc"), "text": texts})
    task = nbannot.Task(frame, codebook_of(TOPIC, TERM, DEGREE), "birds")
    run = nbannot.run(task, model="decide/sparrow", output_root=str(tmp_path))
    assert [a.status for a in run.coding.answers["S_Topic"]] == ["ok", "not_asked", "not_asked"]
    reasons = [a.reason for a in run.coding.answers["S_Term"]]
    assert reasons[1] == "text does not fit: about 1,200 tokens of 512"
    assert reasons[2] == "the text is blank"
    info = run.config["model_info"]
    assert info["name"] == "sparrow-nano-general-v1.1"
    assert info["digest"].startswith("sha256:")
    assert len(calls(run)) == 2
    replayed = nbannot.run(task, model=f"replay/{run.folder}", output_root=str(tmp_path / "again"))
    assert replayed.coding.values("S_Topic") == run.coding.values("S_Topic")
    with pytest.raises(
        ModelError, match=r"no decision model 'sparrow-giant'.*\n.*decide/sparrow-nano-general"
    ):
        nbannot.run(task, model="decide/sparrow-giant", output_root=str(tmp_path))


class Fickle:
    """A decision engine as another package would bring it: right, wrong in number, and failing, by the question."""

    def __init__(self, name, **settings):
        self.name = name

    def info(self):
        return ModelInfo(name=self.name, backend="decide", digest="sha256:ab")

    def too_long(self, text, questions):
        return "about 9 tokens of 8" if "number 2:" in text else ""

    def probabilities(self, text, question):
        if question.name == "Gate":
            raise ZeroDivisionError("no weights")
        return [0.75, 0.25] if question.name == "Term" else [0.5, 0.5]


def test_an_engine_of_another_package_comes_by_entry_point_and_cannot_stop_a_run(tmp_path, monkeypatch):
    point = EntryPoint("fickle", "test_decisions:Fickle", "nbannot.deciders")
    monkeypatch.setattr("nbannot.models.decide.deciders", lambda: {"fickle": point})
    run = nbannot.run(
        task_of(3, codebook_of(GATE, TERM, TOPIC)), model="decide/fickle", output_root=str(tmp_path)
    )
    assert [a.value for a in run.coding.answers["S_Term"]] == [0, 0, None]
    reasons = {column: answers[0].reason for column, answers in run.coding.answers.items()}
    assert reasons["S_Gate"] == "the model failed on this question: ZeroDivisionError: no weights"
    assert reasons["S_Topic"] == "2 probabilities for 3 options"
    assert run.coding.answers["S_Term"][2].reason == "text does not fit: about 9 tokens of 8"
    assert run.config["model_digest"] == "sha256:ab"
    absent = EntryPoint("fickle", "no_such_package_here:Fickle", "nbannot.deciders")
    monkeypatch.setattr("nbannot.models.decide.deciders", lambda: {"fickle": absent})
    with pytest.raises(
        ModelError, match=r"needs the package 'no_such_package_here'.*\n  pip install no_such"
    ):
        nbannot.run(task_of(1, codebook_of(TERM)), model="decide/fickle", output_root=str(tmp_path))


def test_a_killed_or_stopped_run_asks_nothing_twice(tmp_path):
    """A ledger cut anywhere, as a kill leaves it, is continued to the same answers with the missing calls alone."""
    task, maker = task_of(8, codebook_of(*EVERY)), Maker(ONE)
    with Deciding(maker) as server:
        whole = run_at(server, task, tmp_path / "1", max_parallel=1)
        run = run_at(server, task, tmp_path / "2", max_parallel=1)
        path = run.folder / "responses.jsonl"
        content, config = path.read_bytes(), json.loads((run.folder / "config.json").read_text())
        path.write_bytes(content[: len(content) // 2])  # most likely in the middle of a line
        kept = content[: len(content) // 2].count(b'\n{"text_id"') - (
            content[: len(content) // 2][-1:] != b"\n"
        )
        for name in ("output.csv", "timing_data.json", "probabilities.parquet"):
            (run.folder / name).unlink()
        (run.folder / "config.json").write_text(json.dumps({**config, "status": "running"}))
        before = len([s for s in maker.seen if s["text"] in task.texts])
        again = run_at(server, task, tmp_path / "2", max_parallel=1)
        asked = len([s for s in maker.seen if s["text"] in task.texts]) - before
    assert again.coding.answers == whole.coding.answers
    assert 0 < asked <= len(calls(whole)) - kept
    assert len(calls(again)) == len(calls(whole))
    assert pl.read_parquet(again.folder / "probabilities.parquet").height == len(whole.probabilities())


def test_a_plan_asks_a_server_nothing_and_shows_the_request(tmp_path):
    maker = Maker(ONE)
    with Deciding(maker) as server:
        plan = nbannot.plan(
            "policy-sentiment", model="decide/any", base_url=server.url, output_root=str(tmp_path)
        )
    assert maker.seen == []
    assert "a plan sends nothing, not even a first question" in str(plan)
    assert plan.calls_at_least == 64


def test_a_file_of_weights_that_was_replaced_is_read_anew(tmp_path):
    sparrow_decider = pytest.importorskip("sparrow_decider", reason="no such extra here")
    general, robot = (sparrow_decider._resolve(name) for name in sparrow_decider.available_models()[:2])
    place = tmp_path / "mine.sparrow"
    shutil.copy(general, place)
    first, again = Sparrow(str(place)), Sparrow(str(place))
    assert first.info().digest == again.info().digest
    assert first._model is again._model
    shutil.copy(robot, place)
    os.utime(place, (1, 1))
    assert Sparrow(str(place)).info().digest not in (None, first.info().digest)
