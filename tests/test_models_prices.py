"""What a run costs: the user's prices, else a provider's list price, else nothing that is made up."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from conftest import GATE, codebook_of, task_of
from genai_prices import Usage, calc_price
from rawserving import Raw, said
from scripted import Scripted, run_with, well

import nbannot
from nbannot.asking.request_reply import ModelInfo
from nbannot.comparing.took import tokens_of
from nbannot.errors import ConfigError
from nbannot.models.chat import read_completion
from nbannot.models.exchange import Exchange
from nbannot.models.prices import Prices, list_prices, prices_of, stored_prices
from nbannot.page.digits import money
from nbannot.running.estimates import longest_request
from nbannot.study.config import RunConfig

OPENAI = "https://api.openai.com/v1"
HOSTED = ModelInfo("gpt-4o-mini", "openai", endpoint=OPENAI, is_local=False, energy_measured=False)


class Hosted(Scripted):
    """A model of a provider, which counts its tokens."""

    def info(self):
        return HOSTED

    async def ask(self, request):
        return replace(await super().ask(request), input_tokens=2_000, output_tokens=500)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("gpt-4o-mini", OPENAI),
        ("claude-sonnet-4-5", "https://api.anthropic.com"),
        ("mistral-small-latest", "https://api.mistral.ai/v1"),
        ("llama-3.3-70b-versatile", "https://api.groq.com/openai/v1"),
        ("gemini-2.5-flash", "https://generativelanguage.googleapis.com/v1beta/openai"),
        ("deepseek-chat", "https://api.deepseek.com"),
        ("meta-llama/llama-3.3-70b-instruct", "https://openrouter.ai/api/v1"),
    ],
)
def test_a_list_price_is_what_the_table_makes_of_the_same_tokens(name, address):
    price = list_prices(name, address)
    made = calc_price(Usage(input_tokens=3_000, output_tokens=700), name, provider_api_url=address)
    assert price.of(3_000, 700) == pytest.approx(float(made.total_price))
    assert price.currency == "US$"
    again = Usage(input_tokens=3_000, output_tokens=700, cache_read_tokens=2_000)
    cached = calc_price(again, name, provider_api_url=address)
    assert price.of(3_000, 700, cached=2_000) == pytest.approx(float(cached.total_price))
    put = Usage(input_tokens=3_000, output_tokens=700, cache_write_tokens=2_000)
    written = calc_price(put, name, provider_api_url=address)
    assert price.of(3_000, 700, kept=2_000) == pytest.approx(float(written.total_price))
    assert price.at_most(3_000, 700) >= price.of(3_000, 700, kept=2_000)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("gpt-4o-mini", "http://gpu1:8000/v1"),
        ("gpt-4o-mini", "https://api.openai.com.example.org/v1"),
        ("gpt-4o-mini", "https://mine.openai.azure.com/openai/deployments/gpt-4o-mini"),
        ("a-model-that-nobody-has", OPENAI),
        ("", OPENAI),
        ("gpt-4o-mini", ""),
    ],
)
def test_no_price_is_guessed(name, address):
    assert list_prices(name, address) is None


def test_a_batch_costs_what_is_published_for_batches():
    assert list_prices("gpt-4o-mini", OPENAI, batch=True).input < list_prices("gpt-4o-mini", OPENAI).input
    assert list_prices("llama-3.3-70b-versatile", "https://openrouter.ai/api/v1", batch=True) is None


def test_money_in_plan_budget_card_table_and_report(tmp_path, with_model):
    task = task_of(40, codebook_of(GATE))
    price = list_prices(HOSTED.name, OPENAI)
    each = price.of(2_000, 500)
    with_model(Hosted(well))
    plan = nbannot.plan(task, model="openai/gpt-4o-mini", output_root=str(tmp_path))
    assert plan.money_at_most == pytest.approx(
        price.at_most(plan.input_tokens_at_most, plan.output_tokens_at_most)
    )
    assert "US$" in str(plan)
    assert "list price of OpenAI" in str(plan)
    first = run_with(Hosted(well, parallel=1), with_model, task, tmp_path, budget={"money": 10.5 * each})
    assert "the budget is spent: money" in first.config["stopped"]
    assert first.coding.count()["ok"] == 11
    assert first.cost == pytest.approx(11 * each)
    whole = run_with(Hosted(well), with_model, task, tmp_path)
    assert whole.cost == pytest.approx(40 * each)
    assert nbannot.runs(task, output_root=tmp_path)["cost"].tolist() == [pytest.approx(40 * each)]
    assert nbannot.load_run(whole.folder).cost == whole.cost
    kept = json.loads((whole.folder / "config.json").read_text())["prices_used"]
    assert (kept["input"], kept["currency"]) == (price.input, "US$")
    for shown in (whole, whole.report()):
        assert f"US${40 * each:.2g} (list price of OpenAI, table of genai-prices" in " ".join(
            str(shown).split()
        )


def test_prices_of_the_user_come_first_and_have_no_currency_of_ours(tmp_path, with_model):
    task = task_of(3, codebook_of(GATE))
    run = run_with(Hosted(well), with_model, task, tmp_path, prices={"input": 1.0})
    assert run.cost == pytest.approx(3 * 2_000 / 1e6)
    assert "US$" not in str(run)
    local = run_with(Scripted(well), with_model, task, tmp_path / "local")
    assert local.cost is None
    assert "money" not in str(local)


class Silent(Hosted):
    """A provider that leaves the count of tokens out of every second reply."""

    nth = 0

    async def ask(self, request):
        self.nth += 1
        tells = self.nth % 2
        reply = await super().ask(request)
        return reply if tells else replace(reply, input_tokens=None, output_tokens=None)


def test_answers_without_their_tokens_are_not_free(tmp_path, with_model):
    task, price = task_of(10, codebook_of(GATE)), list_prices(HOSTED.name, OPENAI)
    run = run_with(Silent(well), with_model, task, tmp_path)
    assert run.cost is None
    known = money(5 * price.of(2_000, 500), "US$")
    assert f"at least {known}: 5 answers came without a count of tokens" in " ".join(str(run).split())
    assert tokens_of(run) is None
    # For a budget they count as much as they can have cost: no fewer texts are left than with all tokens told.
    told = run_with(Hosted(well, parallel=1), with_model, task, tmp_path / "t", budget={"tokens": 9_000})
    silent = run_with(Silent(well, parallel=1), with_model, task, tmp_path / "s", budget={"tokens": 9_000})
    assert told.coding.count()["ok"] == 4
    assert 4 <= silent.coding.count()["ok"] < 8


@pytest.mark.parametrize("name", ["gpt-4o-mini", "a-model-that-no-table-has"])
def test_what_openrouter_says_it_has_charged_is_what_a_run_cost(name, tmp_path, monkeypatch):
    monkeypatch.setattr("nbannot.models.openai_compatible.OPENROUTER", "127.0.0.1")
    monkeypatch.setattr("nbannot.engine.sending.FIRST_WAIT_S", 0.001)
    asked = []

    def answer(sent):
        asked.append(sent)
        broken = len(asked) == 2  # which it does not charge for
        reply = said('{"response": true}', "error" if broken else "stop")
        reply["usage"]["cost"] = 0 if broken else 0.001
        return 200, reply

    settings = {"model": f"openai/{name}", "max_parallel": 1, "output_root": str(tmp_path)}
    with Raw(answer, get=lambda path: (200, {"data": [{"id": name}]})) as server:
        run = nbannot.run(task_of(6, codebook_of(GATE)), base_url=server.url, **settings)
        own = nbannot.run(
            task_of(6, codebook_of(GATE)),
            base_url=server.url,
            prices={"input": 1e6},
            temperature=0.5,
            **settings,
        )
    assert run.coding.count() == own.coding.count() == {"ok": 6}
    assert run.cost == pytest.approx(0.006)
    assert "US$0.006 (as the provider's replies say it has charged)" in " ".join(str(run).split())
    assert own.cost == 6 * 9


def test_a_cache_that_is_read_for_less_is_reckoned_so_with_the_users_prices_too():
    opus = ModelInfo("claude-opus-5-5", "anthropic", endpoint="https://api.anthropic.com/v1", is_local=False)
    mine = prices_of(RunConfig(model="anthropic/claude-opus-5-5", prices={"input": 100.0}), opus)
    assert (mine.cached_input, mine.batch.cached_input) == (pytest.approx(5.0), pytest.approx(2.5))
    other = prices_of(
        RunConfig(model="anthropic/x", prices={"input": 100.0}), replace(opus, name="a-new-model")
    )
    assert other.cached_input == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("known", "sister", "address"),
    [
        (
            "gemini-3.6-flash",
            "gemini-3.6-flash-lite",
            "https://generativelanguage.googleapis.com/v1beta/openai",
        ),
        ("claude-sonnet-5-5-20260928", "claude-sonnet-5-5-mini", "https://api.anthropic.com/v1"),
        ("deepseek-v4-pro", "deepseek-v4-pro-max", "https://api.deepseek.com"),
        ("gpt-5-nano-2025-08-07", "gpt-5-nano-fast", OPENAI),
    ],
)
def test_a_sister_that_the_table_does_not_know_has_no_price(known, sister, address):
    assert list_prices(known, address) is not None
    assert list_prices(sister, address) is None


def test_a_name_for_which_the_table_has_an_older_models_price_has_none():
    assert list_prices("mistral-large-latest", "https://api.mistral.ai/v1") is None
    assert list_prices("mistral-large-2411", "https://api.mistral.ai/v1").input == 2.0


HAIKU = ModelInfo("claude-haiku-4-5", "anthropic", endpoint="https://api.anthropic.com/v1", is_local=False)


def test_a_cache_within_a_batch_has_prices_of_its_own():
    """A million tokens: 1 dollar sent, .1 read from a cache, 1.25 kept for 5 minutes, 2 for an hour; a batch: half."""
    now = {
        "input_tokens": 1_000_000,
        "output_tokens": 100_000,
        "cached_tokens": 600_000,
        "cache_write_tokens": 300_000,
    }
    batch = {f"batch_{name}": tokens for name, tokens in now.items()}
    for prices in (
        prices_of(RunConfig(model="anthropic/x"), HAIKU),
        prices_of(RunConfig(model="anthropic/x", prices={"input": 1.0, "output": 5.0}), HAIKU),
    ):
        assert prices.of_run(now) == pytest.approx(0.1 + 0.06 + 0.375 + 0.5)
        assert prices.of_run({**now, **batch}) == pytest.approx((0.1 + 0.06 + 0.6 + 0.5) / 2)
        both = {name: 2 * tokens for name, tokens in now.items()} | batch
        assert prices.of_run(both) == pytest.approx(1.035 + 0.63)
        kept = json.loads(json.dumps(prices.to_dict()))
        assert stored_prices({"prices_used": kept}) == prices
    # A cache of OpenAI takes nothing off in a batch, and neither does one of which nothing is known.
    prices = prices_of(RunConfig(model="openai/x"), replace(HOSTED, name="gpt-4.1-mini"))
    assert prices.of_run({**now, **batch}) == pytest.approx((0.4 + 0.16) / 2)
    mine = RunConfig(model="openai/x", prices={"input": 0.4, "output": 1.6})
    assert prices_of(mine, HOSTED).of_run({**now, **batch}) == pytest.approx((0.4 + 0.16) / 2)
    groq = ModelInfo(
        "llama-3.1-8b-instant", "openai", endpoint="https://api.groq.com/openai/v1", is_local=False
    )
    prices = prices_of(RunConfig(model="openai/x"), groq)
    assert prices.of_run({**now, **batch}) >= prices.batch.of(10**6, 10**5) > 0


def test_no_use_of_tokens_costs_more_than_the_bound():
    rnd = random.Random(7)
    for name, address in (
        ("claude-sonnet-4-5", "https://api.anthropic.com"),
        ("deepseek-chat", "https://api.deepseek.com"),
        ("mistral-small-latest", "https://api.mistral.ai/v1"),
        ("~deepseek/deepseek-pro-latest", "https://openrouter.ai/api/v1"),  # a cached token costs more there
        ("gemini-2.5-flash", "https://generativelanguage.googleapis.com/v1beta/openai"),
        ("gpt-4.1", OPENAI),
    ):
        info = ModelInfo(
            name, "anthropic" if "claude" in name else "openai", endpoint=address, is_local=False
        )
        prices = prices_of(RunConfig(model="openai/x"), info)
        for _ in range(100):
            sent, written = rnd.randrange(1, 100_000), rnd.randrange(5_000)
            cached = rnd.randrange(sent)
            kept = rnd.randrange(sent - cached + 1)
            for way in (prices, prices.batch):
                assert way.of(sent, written, cached, kept) <= way.at_most(sent, written) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("name", "address"),
    [("gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai"), ("gpt-5.4", OPENAI)],
)
def test_a_request_that_is_long_enough_to_cost_more_is_in_the_bound(name, address):
    """What the table itself reckons for one request, below and above the length from which another price holds."""
    prices = list_prices(name, address)
    assert prices.long_from > 100_000, "the table has no such model any more: take another"
    for sent in (prices.long_from - 1, prices.long_from + 1):
        usage = Usage(input_tokens=sent, output_tokens=1_000)
        paid = float(calc_price(usage, name, provider_api_url=address).total_price)
        short, bound = prices.at_most(sent, 1_000), prices.at_most(sent, 1_000, longest=sent)
        assert paid <= bound * (1 + 1e-9)
        assert (short < paid) is (sent > prices.long_from)
    again = Prices.from_dict(json.loads(json.dumps(prices.to_dict())))
    assert again == prices


def test_prices_of_a_user_are_dearer_for_long_requests_in_the_bound_as_the_list_is():
    name, address = "gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai"
    info = ModelInfo(name, "openai", endpoint=address, is_local=False)
    known = list_prices(name, address)
    assert known.long_from, "the table has no such model any more: take another"
    half = {"input": known.input / 2, "output": known.output / 2}  # a discount of the user's
    own = prices_of(RunConfig(model=f"openai/{name}", base_url=address, prices=half), info)
    sent = known.long_from + 1
    assert own.of(10**6, 10**6) == half["input"] + half["output"]
    assert own.at_most(sent, 1_000) >= own.of(sent, 1_000)
    assert (
        own.at_most(sent, 1_000, longest=sent)
        >= known.at_most(sent, 1_000, longest=sent) / 2
        > own.of(sent, 1_000)
    )
    at_openai = ModelInfo("gpt-5.4", "openai", endpoint=OPENAI, is_local=False)
    batch = prices_of(RunConfig(model="openai/gpt-5.4", prices=half), at_openai).batch
    assert batch.at_most(10**6, 1_000, longest=10**6) > batch.at_most(10**6, 1_000)
    assert f"{known.long_from:,} tokens and more" in own.source
    here = prices_of(RunConfig(model="openai/m", prices=half), ModelInfo("m", "openai", is_local=True))
    assert (here.long_from, here.source) == (0, "the setting prices")


def test_what_openai_puts_into_its_cache_unasked_is_paid_for():
    """From GPT-5.6 on it costs more than what is sent, and is counted among the details of the prompt."""
    details = {"cached_tokens": 2_000, "cache_write_tokens": 7_000}
    told = {"prompt_tokens": 10_000, "completion_tokens": 100, "prompt_tokens_details": details}
    choice = {"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}
    reply = read_completion(Exchange(200, {"choices": [choice], "usage": told}))
    assert (reply.input_tokens, reply.cached_tokens, reply.cache_write_tokens) == (10_000, 2_000, 7_000)
    name = "gpt-5.6-sol"
    known = list_prices(name, OPENAI)
    assert known.cache_write > known.input, "the table has no such model any more: take another"
    usage = Usage(input_tokens=10_000, output_tokens=100, cache_read_tokens=2_000, cache_write_tokens=7_000)
    paid = float(calc_price(usage, name, provider_api_url=OPENAI).total_price)
    counts = {
        "input_tokens": 10_000,
        "output_tokens": 100,
        "cached_tokens": 2_000,
        "cache_write_tokens": 7_000,
    }
    assert known.of_run(counts) == pytest.approx(paid)
    half = {"input": known.input / 2, "output": known.output / 2}  # a discount of the user's
    info = ModelInfo(name, "openai", endpoint=OPENAI, is_local=False)
    own = prices_of(RunConfig(model=f"openai/{name}", prices=half), info)
    assert paid / 2 <= own.of_run(counts) <= own.at_most(10_000, 100) + 1e-12
    wrong = told | {"prompt_tokens_details": {"cached_tokens": 2_000, "cache_write_tokens": 9_000}}
    assert read_completion(Exchange(200, {"choices": [choice], "usage": wrong})).cache_write_tokens is None


def test_the_longest_request_of_a_task_is_bounded(tmp_path):
    book = nbannot.load_task("policy-sentiment").codebook
    data = pl.DataFrame({"sample_id": ["a", "b"], "text": ["short", "long " * 50_000]})
    task = nbannot.Task(data, book, "long")
    jobs = [nbannot.plan(task, model="mock", output_root=str(tmp_path), **settings).design.job
            for settings in ({}, {"limit": 1}, {"chat_mode": "per_text"})]  # fmt: skip
    alone, short, talk = map(longest_request, jobs)
    assert 250_000 < alone < 270_000 < 4 * 250_000 < talk
    assert short < 10_000


def test_the_bound_holds_at_every_hour_of_the_day(monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 20, hours.pop(), 50, tzinfo=UTC)

    hours = [2, 20]
    monkeypatch.setattr("nbannot.models.prices.datetime", Clock)
    prices = [list_prices("deepseek-chat", "https://api.deepseek.com") for _ in range(2)]
    dear, cheap = sorted(prices, key=lambda one: -one.input)
    assert dear.input > cheap.input, "the table has no model with hours any more: take another"
    assert cheap.at_most(10, 10) == dear.at_most(10, 10) >= dear.of(10, 10)
    assert "more at other hours" in cheap.source
    assert "hours" not in dear.source


def test_a_budget_in_money_counts_what_is_put_into_a_cache(tmp_path, with_model):
    class Keeping(Hosted):
        def info(self):
            return HAIKU

        async def ask(self, request):
            return replace(await super().ask(request), cached_tokens=0, cache_write_tokens=2_000)

    each = 2_000 * 1.25e-6 + 500 * 5e-6
    run = run_with(
        Keeping(well, parallel=1),
        with_model,
        task_of(20, codebook_of(GATE)),
        tmp_path,
        budget={"money": 9.5 * each},
    )
    assert run.coding.count()["ok"] == 10
    assert run.cost == pytest.approx(10 * each)


def test_a_budget_in_money_is_refused_where_it_would_bound_nothing(tmp_path, with_model):
    class Nobodys(Hosted):
        def info(self):
            return replace(HOSTED, endpoint="https://llm.example.edu/v1")

    task, budget = task_of(2, codebook_of(GATE)), {"money": 1.0}
    for do in (nbannot.plan, nbannot.run):
        with_model(Nobodys(well))
        with pytest.raises(ConfigError, match=r"costs is not known: it would limit nothing\."):
            do(task, model="openai/gpt-4o-mini", output_root=str(tmp_path), budget=budget)
    run = run_with(Nobodys(well), with_model, task, tmp_path, budget=budget, prices={"input": 1.0})
    assert run.status == "complete"
    assert run_with(Scripted(well), with_model, task, tmp_path / "here", budget=budget).status == "complete"
