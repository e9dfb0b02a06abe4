"""The models: one protocol, a registry, and the backends behind it (each imported only when it is named).

A model's name is ``<backend>/<name>``; the backend is an entry point of the group ``nbannot.models``, which other
packages can add to. ``local`` alone is the embedded default.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import Any

from nbannot.asking.request_reply import Model, ModelInfo, Reply, Request
from nbannot.errors import ModelError, NbannotError, listed, nearest
from nbannot.models.batch_offers import Offer, offer_of
from nbannot.models.keys import KeyChoice
from nbannot.models.place import check_place
from nbannot.models.several import Several
from nbannot.study.config import RunConfig

__all__ = ["Model", "ModelInfo", "Reply", "Request", "backends", "get_model", "split_name"]

GROUP = "nbannot.models"


@cache
def backends() -> dict[str, EntryPoint]:
    """Return the backends by name: those of nbannot and those that other packages add."""
    points = {point.name: point for point in entry_points(group=GROUP)} | _own_backends()
    return dict(sorted(points.items()))


@cache
def _own_backends() -> dict[str, EntryPoint]:
    """Return the backends of nbannot itself: at once, where all packages of an environment take a while to look at."""
    try:
        own = distribution("nbannot")
    except PackageNotFoundError:  # a copy of the files that was never installed
        return {}
    return {point.name: point for point in own.entry_points.select(group=GROUP)}


def split_name(model: str) -> tuple[str, str]:
    """Return backend and name of ``<backend>/<name>``; the name may be empty.

    >>> split_name("ollama/gemma3:270m"), split_name("mock?wrong=0.1")
    (('ollama', 'gemma3:270m'), ('mock', '?wrong=0.1'))
    """
    backend, slash, name = model.partition("/")
    if not slash and "?" in model:
        backend, _, rest = model.partition("?")
        return backend, f"?{rest}"
    return backend, name


def get_model(config: RunConfig, say: Callable[[str], None] | None = None) -> Model:
    """Return the model that a config names, not yet loaded or contacted.

    Parameters
    ----------
    say
        Told in a sentence what takes time, e.g. that weights are fetched.

    Raises
    ------
    ModelError
        If the backend is unknown, or what it needs is not installed.
    """
    backend, name = split_name(config.model)
    known = _own_backends()
    if backend not in known:
        known = backends()
    if backend not in known:
        raise ModelError(
            f"unknown model '{config.model}'{nearest(backend, known) or '.'}\n"
            f"  A model is <backend>/<name>; backends here: {listed(known, 12)}.\n"
            '  The embedded one is "local"; one on an Ollama server is "ollama/<name>".'
        )
    settings: dict[str, Any] = {
        "context_size": config.context_size,
        "threads": config.threads,
        "seed": config.seed,
        "base_url": config.base_url if isinstance(config.base_url, str) else None,
        "timeout_s": config.timeout_s,
        "max_parallel": config.max_parallel,
        "say": say,
    }
    try:
        make: Callable[..., Model] = known[backend].load()
        if isinstance(config.base_url, tuple):
            model: Model = Several(
                lambda address: make(name, **settings | {"base_url": address}), config.base_url
            )
        else:
            model = make(name, **settings)
    except NbannotError:
        raise
    except ImportError as error:
        raise ModelError(
            f"the backend '{backend}' needs the package '{error.name}', which is not installed.\n"
            f'  pip install "nbannot[{backend}]"'
        ) from None
    check_place(config, config.model, _places(model))
    return model


def batch_offer(config: RunConfig) -> Offer | None:
    """Return what the provider of a config's model says of its batches; ``None`` where the model has none.

    Nothing is contacted.
    """
    try:
        model = get_model(config)
    except NbannotError:
        return None
    return offer_of(next(iter(_places(model)), None)) if hasattr(model, "batches") else None


def _places(model: Model) -> list[str]:
    """Return where a model's servers are, as far as it is known before it is asked; none for one in this process."""
    if isinstance(model, Several):
        return [place for server in model.servers for place in _places(server)]
    address = getattr(model, "address", None)
    return [address] if address else []


def address_of(config: RunConfig) -> str | None:
    """Return where a model's server is, as far as it is known without contacting it."""
    try:
        places = _places(get_model(config))
    except NbannotError:
        places = []
    given = [config.base_url] if isinstance(config.base_url, str) else config.base_url or ()
    return ", ".join(places or given) or None


def key_goes(config: RunConfig) -> str:
    """Return which key would go where, e.g. ``"OPENAI_API_KEY goes to api.openai.com"``; "" where none is used.

    Nothing is contacted. A model that cannot be made has no key to tell of.
    """
    try:
        model = get_model(config)
    except NbannotError:
        return ""
    choices = [getattr(server, "key", None) for server in getattr(model, "servers", (model,))]
    if isinstance(config.workers, str) and any(isinstance(choice, KeyChoice) for choice in choices):
        return "none from here: each worker sends the key in its own environment, where there is one"
    return "; ".join(dict.fromkeys(choice.told() for choice in choices if isinstance(choice, KeyChoice)))
