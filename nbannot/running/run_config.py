"""What ``config.json`` says of a run: its settings, where it came from, and whether it is the one asked for."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from nbannot import __version__
from nbannot.asking.request_reply import Model
from nbannot.engine import energy
from nbannot.engine.job import Progress
from nbannot.engine.served import WEIGHTS_CHANGED, changes
from nbannot.errors import RunError, listed
from nbannot.record import folder
from nbannot.running.design import Design
from nbannot.tools.files import read_json

Served = Counter[tuple[str | None, str | None]]
"""Model and configuration that replies name -> number of replies."""

PACKAGES = ("aiohttp", "codecarbon", "huggingface_hub", "krippendorff", "numpy", "pandas", "polars", "scikit-learn",
            "scipy", "sparrow-decider", "xllamacpp")  # fmt: skip


def config_of(plan: Design, status: str) -> dict[str, Any]:
    """Return the content of ``config.json``: settings first, then where the run came from. Never a secret."""
    task, kind, info = plan.task, plan.job.kind, plan.info
    path = task.path
    return {
        "run_id": plan.run_id,
        "task_name": task.name,
        **plan.config.to_dict(),
        "model_id": plan.model_id,
        "status": status,
        "max_tokens_used": plan.job.max_tokens,
        "answer_mode_used": plan.job.answer_mode,
        "calibration_used": "batch" if plan.job.calibrated else "none",
        "prompt_template": kind.template,
        "prompt_hash": plan.prompt_hash,
        "codebook_path": str(path / "codebook.json") if path else None,
        "ground_truth_path": str(path / "ground-truth.csv") if path else None,
        "n_texts": len(task),
        "id_source": task.id_source,
        "columns_asked": [f.column for f in plan.job.fields],
        "not_asked": dict(plan.job.unasked),
        "decides": plan.job.decides,
        "codebook_hash": task.codebook.hash,
        "data_hash": plan.data_hash,
        "model_info": dataclasses.asdict(info),
        "model_digest": info.digest,
        "backend": info.backend,
        "server_version": info.server,
        "energy": _energy_words(plan),
        **({"personal_data": plan.personal_data} if plan.personal_data else {}),
        **({"prices_used": plan.job.prices.to_dict()} if plan.job.prices else {}),
        "nbannot_version": __version__,
        "packages": dict(_versions()),
        "python": platform.python_version(),
        "os": platform.platform(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "identity": plan.identity,
        "codebook": task.codebook.source,
    }


def _energy_words(plan: Design) -> str:
    if not plan.info.energy_measured:
        return "not measured: the model runs on another machine"
    if plan.config.country_iso_code is None:
        return f"estimated by CodeCarbon; carbon intensity: world average, {energy.WORLD_AVERAGE_G_PER_KWH:g} g/kWh"
    return f"estimated by CodeCarbon; carbon intensity of {plan.config.country_iso_code}"


@lru_cache(maxsize=1)
def _versions() -> Mapping[str, str]:
    """Return the versions of the packages that decide numbers; what is installed does not change while one runs."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def capabilities_of(place: Path, model: Model, progress: Progress) -> dict[str, Any]:
    """Return what the model was found to take; a session that sent nothing keeps what an earlier one found."""
    capabilities: dict[str, Any] = getattr(model, "capabilities", {})
    if progress.calls == 0:
        capabilities = read_json(place / folder.CONFIG).get("capabilities") or capabilities
    return capabilities


def model_changes(
    place: Path, served: Served, digest: str | None, now: str | None, notes: Sequence[str] = ()
) -> list[str]:
    """Return what to tell of a model that was not the same to the end; what an earlier session saw is kept."""
    changed = [*changes(served, digest, now), *notes]
    earlier = read_json(place / folder.CONFIG).get("model_changes") or []
    return changed + [line for line in earlier if line.startswith(WEIGHTS_CHANGED) and line not in changed]


def same_run(stored: Mapping[str, Any], plan: Design) -> None:
    """Refuse a folder that holds another run than the one asked for."""
    if not stored and (strangers := folder.strangers(plan.folder)):
        raise RunError(
            f"{plan.folder} exists and holds no config.json of ours, but {listed(strangers)}.\n"
            "  Move it away, or choose another output_root."
        )
    other = stored.get("identity")
    if not stored or other == json.loads(json.dumps(plan.identity)):
        return
    differing = sorted(
        k for k in plan.identity if not isinstance(other, dict) or other.get(k) != plan.identity[k]
    )
    raise RunError(
        f"{plan.folder} holds a run with other settings ({listed(differing)}); nothing was written.\n"
        "  Its config.json was changed, or the folder was moved here: choose another output_root."
    )


def another_server(stored: Mapping[str, Any], plan: Design) -> bool:
    """Return whether what decides which texts fit may be different now: server, model, its context, our version."""
    now = json.loads(json.dumps(dataclasses.asdict(plan.info), default=str))
    then = stored.get("model_info")
    if not isinstance(then, dict) or stored.get("nbannot_version") != __version__:
        return True
    decisive = ("context_size", "server", "endpoint", "details")
    return any(then.get(name) != now[name] for name in decisive)


def other_country(stored: Mapping[str, Any], plan: Design) -> str:
    """Return what to say where a finished run was estimated with another carbon intensity; "" where it was not."""
    then, now = (
        code or "the world average" for code in (stored.get("country_iso_code"), plan.config.country_iso_code)
    )
    if not plan.info.energy_measured or then == now:
        return ""
    return (
        f"finished before: its emissions stay estimated with the carbon intensity of {then}, not of {now}. "
        "fresh=True (%%annotate --fresh) asks the model again."
    )
