"""What is there and what is missing: this machine, the packages, the models, the folders, and one tiny request.

Nothing is installed, fetched or started to find out, and no key is ever shown, only whether there is one.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nbannot import __version__
from nbannot.errors import NbannotError, listed
from nbannot.models.keys import OWN_KEY
from nbannot.models.place import LOCAL_ONLY_VARIABLE, allowed_by_environment, is_local_only
from nbannot.models.registry import backends, get_model, key_goes
from nbannot.study.checks import country
from nbannot.study.config import RunConfig
from nbannot.study.settings import COUNTRY_VARIABLE
from nbannot.tools.files import free_disk

if TYPE_CHECKING:
    from nbannot.study.task import Task

KEYS = ("OPENAI_API_KEY", OWN_KEY, "HF_TOKEN")
"""Environment variables that may hold a key; only whether they are set is ever told."""

EXTRAS = {
    "local": ("xllamacpp",),
    "decide": ("sparrow_decider",),
    "cluster": ("distributed", "cryptography"),
    "names": ("spacy",),
    "textbox": ("rouge_score", "sentence_transformers", "bert_score"),
}
OLLAMA_TIMEOUT_S = 1.0
LEAST_DISK = 500_000_000
"""The embedded model and a run of thousands of texts fit into it; below it, doctor warns."""

State = Literal["ok", "missing", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    state
        ``"missing"`` is something one can do without; ``"problem"`` is not.
    todo
        What to type; "" where nothing needs doing.
    """

    what: str
    state: State
    found: str
    todo: str = ""


def examine(output_root: str | Path) -> list[Finding]:
    """Return what there is on this machine, in the order in which people need it."""
    return [
        Finding("nbannot", "ok", __version__),
        Finding("Python", "ok", f"{platform.python_version()} ({sys.executable})"),
        Finding("system", "ok", f"{platform.platform()}, {os.cpu_count()} processors"),
        _packages(),
        *_extras(),
        _cache(),
        _weights(),
        _writable(Path(output_root)),
        _ollama(),
        *_environment(),
    ]


def _packages() -> Finding:
    """Look for every package that nbannot needs."""
    wanted = [line for line in metadata.requires("nbannot") or () if "extra ==" not in line]
    names = [_name(line) for line in wanted]
    missing = [name for name in names if not _installed(name)]
    if missing:
        todo = f'pip install "{missing[0]}"' if len(missing) == 1 else "pip install --force-reinstall nbannot"
        return Finding("packages", "problem", f"not installed: {listed(missing)}", todo)
    shown = [f"{name} {metadata.version(name)}" for name in names]
    return Finding("packages", "ok", listed(shown, len(shown)))


def _name(requirement: str) -> str:
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), len(requirement))
    return requirement[:end]


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        if missing:
            yield Finding(f"extra {extra}", "missing", "not installed", f'pip install "nbannot[{extra}]"')
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _cache() -> Finding:
    from nbannot.tools.files import cache_folder

    return _folder("cache folder", cache_folder(), "set NBANNOT_CACHE to a folder you can write in")


def _writable(output_root: Path) -> Finding:
    finding = _folder("output folder", output_root, 'choose another one: output_root = "..."')
    free = free_disk(output_root.absolute())
    if finding.state == "ok" and free < LEAST_DISK:
        return Finding(finding.what, "problem", f"{finding.found}; {free / 1e6:,.0f} MB free", "make room")
    return finding


def _folder(what: str, folder: Path, todo: str) -> Finding:
    """Look whether files can be written into a folder, without making it."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(what, "problem", f"{folder}: cannot write ({error.strerror})", todo)
    return Finding(what, "ok", str(folder) if folder.exists() else f"{folder} (made when it is needed)")


def _weights() -> Finding:
    from nbannot.models.weights import DEFAULT_MODEL
    from nbannot.tools.files import cache_folder

    path = cache_folder() / "models" / DEFAULT_MODEL.file_name
    if path.exists() and path.stat().st_size == DEFAULT_MODEL.size:
        return Finding("embedded model", "ok", f"{DEFAULT_MODEL.title}, fetched")
    size = f"{DEFAULT_MODEL.size / 1e6:.0f} MB"
    return Finding(
        "embedded model", "missing", f"{DEFAULT_MODEL.title}: fetched when it is first used ({size})"
    )


def _ollama() -> Finding:
    from nbannot.models.ollama_server import HOST_VARIABLE, host_address

    try:
        address = host_address(os.environ.get(HOST_VARIABLE, ""))
    except NbannotError as error:
        return Finding("Ollama", "problem", str(error).splitlines()[0])
    models = ollama_models(address)
    if models is not None:
        return Finding("Ollama", "ok", f"answers at {address}; models: {listed(models, 12) or 'none yet'}")
    if shutil.which("ollama"):
        return Finding("Ollama", "missing", f"installed, no answer at {address}", "ollama serve")
    return Finding("Ollama", "missing", f"no answer at {address}", "see https://ollama.com if you want it")


def ollama_models(address: str) -> list[str] | None:
    """Return the names of the models on an Ollama server; ``None`` if it does not answer within a second."""
    from nbannot.models.addresses import is_loopback

    proxies = urllib.request.ProxyHandler({} if is_loopback(address) else None)
    try:
        with urllib.request.build_opener(proxies).open(
            f"{address}/api/tags", timeout=OLLAMA_TIMEOUT_S
        ) as reply:
            return [str(model["name"]) for model in json.load(reply)["models"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _environment() -> Iterator[Finding]:
    for name in (*KEYS, *sorted(name for name in os.environ if name.startswith(f"{OWN_KEY}_"))):
        there = bool(os.environ.get(name, "").strip())
        yield Finding(name, "ok" if there else "missing", "set" if there else "not set")
    yield _switch()
    code = os.environ.get(COUNTRY_VARIABLE, "").strip()
    why = country(code) if code else ""
    state: State = "problem" if why else "ok" if code else "missing"
    words = f"{code}: {why}" if why else code or "not set: emissions with the world's average electricity"
    yield Finding(COUNTRY_VARIABLE, state, words)


def _switch() -> Finding:
    """Look where texts may go from this machine, whatever a setting says."""
    hosts = allowed_by_environment()
    beside = f"this machine and {listed(hosts, 12)}" if hosts else "this machine"
    if is_local_only():
        return Finding(LOCAL_ONLY_VARIABLE, "ok", f"set: texts go to {beside} alone")
    words = f"texts of a run with local_only = true go to {beside}, others" if hosts else "texts go"
    return Finding(LOCAL_ONLY_VARIABLE, "missing", f"not set: {words} where the model is")


@dataclass(frozen=True, slots=True)
class Available:
    """A backend and what of it can be used here."""

    backend: str
    ready: bool
    found: str
    todo: str = ""


def available() -> list[Available]:
    """Return every backend with what is there to use it; no model is loaded."""
    return [_backend(name) for name in backends()]


def _backend(name: str) -> Available:
    match name:
        case "local":
            weights = _weights()
            if find_spec("xllamacpp") is None:
                return Available(name, False, "its engine is not installed", 'pip install "nbannot[local]"')
            return Available(name, True, f"{weights.found}; local/FILE.gguf, local/hf://owner/repository")
        case "decide":
            what = 'decide/sparrow, at once and in this process; decide/NAME on a server with base_url = "http://..."'
            here = find_spec("sparrow_decider") is not None
            return Available(name, here, what, "" if here else 'pip install "nbannot[decide]"')
        case "mock":
            return Available(name, True, "made-up answers, for trying things out")
        case "replay":
            return Available(name, True, "replay/RUN_FOLDER: the answers of an earlier run")
        case "baseline":
            return Available(name, True, "learns from the human labels: majority, tfidf-lr, embed-lr")
        case "ollama":
            available = _ollama()
            return Available(name, available.state == "ok", available.found, available.todo)
        case "openai":
            return _served(name, "OPENAI_API_KEY", "OPENAI_BASE_URL")
        case "anthropic":
            return _served(name, "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")
        case "hf":
            return _served(name, "HF_TOKEN", "")
    package = getattr(backends()[name].dist, "name", "")
    return Available(name, True, f"from the package {package}" if package else "installed")


def _served(name: str, key: str, address: str) -> Available:
    """Return what is known of a backend that needs a key, or a server of one's own."""
    where = f", server {os.environ[address]}" if address and os.environ.get(address) else ""
    if os.environ.get(key, "").strip():
        return Available(name, True, f"{key} is set{where}")
    own = '; or a server of your own: base_url = "http://..."' if address else ""
    return Available(name, bool(where), f"{key} is not set{where}{own}", f"export {key}=...")


def _task() -> Task:
    from nbannot.study.task_sources import load_task

    return load_task(str(resources.files("nbannot.study") / "tasks" / "policy-sentiment"))


def try_model(
    model: str, base_url: str | tuple[str, ...] | None = None, workers: int | str | None = None
) -> list[Finding]:
    """Return what a model says of itself and how it answers one question about one short text.

    Of several servers, each is asked.

    Raises
    ------
    NbannotError
        If it cannot be found, loaded or reached, or if several servers do not serve the same.
    """
    from nbannot.running.design import design

    config = RunConfig(
        model=model, base_url=base_url, workers=workers, limit=1, fields=("Direction",), retries=0
    )
    info = design(_task(), config)[0].info
    facts = [
        info.parameters,
        info.quantization,
        info.context_size and f"context {info.context_size:,} tokens",
    ]
    about = ", ".join(str(fact) for fact in facts if fact)
    where = "on this machine" if info.is_local else f"texts are sent to {info.endpoint}"
    findings = [
        Finding("model", "ok", info.full_name + (f" ({about})" if about else "")),
        Finding("where", "ok", where),
        *(Finding("note", "ok", note) for note in info.notes),
    ]
    if words := key_goes(config):
        findings.append(Finding("key", "ok", words))
    if not isinstance(config.base_url, tuple):
        return [*findings, _answer(config, "answer")]
    for address in config.base_url:
        what = f"answer of {address}"
        try:
            findings.append(_answer(config.change(base_url=address), what))
        except NbannotError as error:
            first, _, todo = str(error).partition("\n")
            findings.append(Finding(what, "problem", first, todo.strip()))
    return findings


def _answer(config: RunConfig, what: str) -> Finding:
    """Ask one question about one short text."""
    from nbannot.running.run import run

    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        done = run(_task(), config.change(output_root=scratch))
        seconds = time.perf_counter() - began
        (answers,) = done.coding.answers.values()
        workers = done.config["capabilities"].get("workers")
    answer = answers[0]
    words = f"{answer.value!r}" if answer.status == "ok" else f"{answer.status}: {answer.reason}"
    state: State = "ok" if answer.status == "ok" else "problem"
    by = f" by {workers} worker{'' if workers == 1 else 's'}" if workers is not None else ""
    return Finding(what, state, f"{words}, after {seconds:.1f} s with loading{by}")


CAN = {
    "schema_obeyed": "keeps to the asked form",
    "seed_obeyed": "obeys a seed",
    "label_probabilities": "tells label probabilities",
    "reasoning_on": "reasons when asked to",
    "reasoning_off": "answers without reasoning when asked to",
    "tokens_counted": "counts tokens",
}
"""What `nbannot.models.probe` finds out -> how it is said."""


def examine_model(model: str, base_url: str | tuple[str, ...] | None = None) -> list[Finding]:
    """Return what a model can do, found out by up to seven small requests, for which a paid server will charge.

    Of several servers, the first that can be reached is asked.

    Raises
    ------
    NbannotError
        If it cannot be found, loaded or reached.
    """
    from nbannot.models.probe import probe

    probed = probe(get_model(RunConfig(model=model, base_url=base_url)))
    words = {True: "yes", False: "no", None: "cannot be told"}
    findings = [
        Finding(says, "ok" if probed[name] else "missing", words[probed[name]]) for name, says in CAN.items()
    ]
    if probed["seconds"] is not None:
        findings.append(Finding("seconds per reply", "ok", f"{probed['seconds']:.2f}"))
    return [*findings, *(Finding("request", "problem", words) for words in probed["problems"])]


def examine_determinism(
    model: str, base_url: str | tuple[str, ...] | None = None, *, texts: int = 20, repeats: int = 3
) -> list[Finding]:
    """Return how often a model changes its answer when bundled texts are asked again with the same settings.

    Temperature 0 and no seed; `texts` x `repeats` requests for each of two fields, for which a paid server will
    charge. Nothing is kept.

    Raises
    ------
    NbannotError
        If it cannot be found, loaded or reached.
    """
    from nbannot.comparing.stability import determinism, flip_words

    task = _task()
    config = RunConfig(model=model, base_url=base_url, fields=("Explicit evaluation", "Direction"))
    with tempfile.TemporaryDirectory() as scratch:
        table = determinism(task, config, texts=texts, repeats=repeats, output_root=scratch)
    return [
        Finding(
            f"same answer again: {task.codebook[row['column']].name}",
            "problem" if not row["n"] else "missing" if row["flipped"] else "ok",
            flip_words(row),
        )
        for row in table.to_dict("records")
    ]


def report(findings: list[Finding]) -> str:
    """Return the findings as text, one line each."""
    marks = {"ok": "ok", "missing": "--", "problem": "!!"}
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        todo = f"\n{'':{width + 6}}→ {finding.todo}" if finding.todo else ""
        lines.append(f"{marks[finding.state]}  {finding.what:{width}}  {finding.found}{todo}")
    return "\n".join(lines)
