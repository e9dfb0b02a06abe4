"""The split of a task's texts into a dev and a test half, and the lock on the labels of the test half.

Prompts are chosen on dev. Once a task is locked, the human labels of the test half are blank wherever they could be
read, until the half is opened with a reason; every opening is a line in ``test_log.jsonl`` (`nbannot.study.look_log`).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from nbannot.errors import TaskError, listed
from nbannot.study import look_log, split_registry
from nbannot.study.look_log import SPLIT_FILE
from nbannot.tools.files import read_json, write_json

SIGNPOST = "split_is_in.json"
PACKAGE = Path(__file__).resolve().parents[1]
OUTPUTS = "outputs"
Half = Literal["dev", "test"]


@dataclass(frozen=True, repr=False)
class Lock:
    """Which texts are the test half of a task, and what was looked at.

    Attributes
    ----------
    folder
        Where ``split.json`` and ``test_log.jsonl`` are.
    settings
        The content of ``split.json`` but the ids.
    opened
        Whether the labels of the test half may be read through the task that holds this.
    """

    folder: Path
    test_ids: frozenset[str]
    settings: Mapping[str, Any]
    opened: bool = False
    _labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        n = self.settings["n"]
        return f"<Lock: {n['dev']:,} dev and {n['test']:,} test texts, {'open' if self.opened else 'closed'}>"

    @property
    def _log(self) -> look_log.Log:
        return look_log.read_log(self.folder, str(self.settings["hash"]["test"]))

    @property
    def looks(self) -> list[dict[str, Any]]:
        """The known looks: time, run_id, config, metric, reason, and the hash of the line before (``before``).

        They are the lines of ``test_log.jsonl``, and those that were taken out of it and stand in its copy.
        """
        return self._log.looks

    @property
    def n_looks(self) -> int:
        """How many times the test half was consulted, those of lost lines included."""
        log = self._log
        return len(log.looks) + log.lost

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with ``test_log.jsonl`` (lines taken out, edited), in words; empty where nothing is."""
        return self._log.faults

    def look_of(self, run_id: str) -> int:
        """Return the number of the first look at which a run was scored, from 1; 0 if it never was.

        Looks that were lost are taken to have come before it.
        """
        log = self._log
        return next((k for k, look in enumerate(log.looks, 1 + log.lost) if look.get("run_id") == run_id), 0)

    def consulted_by(self, k: int) -> int:
        """Return by how many configurations the test half had been consulted with look `k`, itself included.

        Looks of one run are by one configuration, whatever they were for.
        """
        log = self._log
        groups: list[set[tuple[str, str]]] = []
        for look in log.looks[: max(0, k - log.lost)]:
            names = {(name, str(look[name])) for name in ("config", "run_id") if look.get(name)}
            same = [group for group in groups if group & names]
            groups = [group for group in groups if group not in same]
            groups.append(names.union(*same))
        return log.lost + len(groups)

    @property
    def words(self) -> str:
        """How often the test half was consulted, in words, and what is wrong with the log of it."""
        log = self._log
        n = len(log.looks) + log.lost
        configs = self.consulted_by(n)
        times = "once" if n == 1 else f"{n} times"
        words = f"test half consulted {times} by {configs} configuration{'' if configs == 1 else 's'}"
        earlier = self.settings.get("earlier") or ()
        faults = [*log.faults]
        if earlier:
            before = sum(int(one.get("looks", 0)) for one in earlier)
            faults.append(
                f"these texts had {'another split' if len(earlier) == 1 else f'{len(earlier)} other splits'} before, "
                f"consulted {'once' if before == 1 else f'{before} times' if before else 'never'}, whose "
                f"{SPLIT_FILE} is gone"
            )
        return (words if n else "test half never consulted") + (f" ({'; '.join(faults)})" if faults else "")

    def note(self, reason: str, run_id: str, config: str, metric: str = "all") -> None:
        """Append a look to ``test_log.jsonl``, unless this configuration was opened for this reason before.

        Raises
        ------
        TaskError
            If the reason is blank, or the file cannot be written: nothing is opened then.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise TaskError(
                f"opening the test half needs a reason that a reader can judge. Got {reason!r}.\n"
                '  E.g. reason="final model, chosen on dev".'
            )
        entry = {"run_id": run_id, "config": config, "metric": metric, "reason": reason.strip()}
        same = [name for name in entry if name != "config" or not run_id]  # a run is of one configuration
        if any(all(look.get(name) == entry[name] for name in same) for look in self.looks):
            return
        look_log.append(self.folder, str(self.settings["hash"]["test"]), entry)

    def sealed(self, data: Any, ids: Sequence[str], columns: Sequence[str]) -> Any:
        """Return the data with blank labels in the test half."""
        if self.opened or not columns:
            return data
        return _blanked(data, [i in self.test_ids for i in ids], columns)

    def restored(self, data: Any, ids: Sequence[str]) -> Any:
        """Return the data with the labels of the test half put back."""
        import polars as pl

        columns = [
            pl.Series(
                name, [cells.get(i, cell) for i, cell in zip(ids, data[name], strict=True)], dtype=pl.String
            )
            for name, cells in self._labels.items()
            if name in data.columns
        ]
        return data.with_columns(columns) if columns else data

    def holding(self, data: Any, ids: Sequence[str], columns: Sequence[str]) -> Lock:
        """Return the lock for other labels of the same texts: what it gives back when it is opened."""
        return replace(self, _labels=_labels_of(data, ids, columns, self.test_ids))

    def open(self) -> Lock:
        """Return the lock as it is held by a task that may be read."""
        return replace(self, opened=True)


def _blanked(data: Any, hidden: Sequence[bool], columns: Sequence[str]) -> Any:
    import polars as pl

    return data.with_columns(
        pl.Series(
            name, ["" if h else cell for h, cell in zip(hidden, data[name], strict=True)], dtype=pl.String
        )
        for name in columns
    )


def places_of(path: Path | None, name: str, output_root: str | Path = OUTPUTS) -> list[Path]:
    """Return where a split may lie: where it may be made, and where a signpost below the usual outputs points to."""
    return [*own_places(path, name, output_root), *map(Path, _signposted(name))]


def _signposted(name: str) -> list[str]:
    signpost = Path(OUTPUTS).absolute() / name / SIGNPOST
    return list(read_json(signpost).get("folders", ())) if os.path.exists(signpost) else []


def put_signpost(place: Path, name: str, output_root: str | Path) -> None:
    """Say below the usual outputs, where every session looks, that the split of a task lies below others."""
    usual = Path(OUTPUTS).absolute() / name
    if place == Path(output_root).expanduser().absolute() / name != usual:
        known = _signposted(name)
        write_json(usual / SIGNPOST, {"folders": [*known, *({str(place)} - set(known))]})


def own_places(path: Path | None, name: str, output_root: str | Path = OUTPUTS) -> list[Path]:
    """Return where what people do on a task is kept: its folder, unless that is of the package or the Hub; outputs."""
    elsewhere = Path(output_root).expanduser().absolute() / name
    if path is None:
        return [elsewhere]
    own = path.absolute()
    from_hub = "snapshots" in own.parts and any(part.startswith("datasets--") for part in own.parts)
    return [elsewhere] if from_hub or PACKAGE in own.resolve().parents else [own, elsewhere]


def place_of(path: Path | None, name: str, output_root: str | Path = OUTPUTS) -> Path:
    """Return where a task's split is made: its own folder if that can be written to, else below the outputs."""
    places = own_places(path, name, output_root)
    try:
        writable = bool(places[0].stat().st_mode & 0o222) and os.access(places[0], os.W_OK)
    except OSError:
        writable = False
    return places[0] if writable else places[-1]


def find_lock(folder: Path, ids: Sequence[str], data: Any, columns: Sequence[str]) -> Lock | None:
    """Return the lock that a folder holds for these texts; None if there is none.

    Raises
    ------
    TaskError
        If ``split.json`` was changed.
    """
    stored = _read_split(folder)
    if stored is None:
        return None
    test_ids = stored.pop("test_ids")
    if not set(test_ids) & set(ids):
        return None
    return Lock(folder, frozenset(test_ids), stored, False, _labels_of(data, ids, columns, set(test_ids)))


def _read_split(folder: Path) -> dict[str, Any] | None:
    try:
        there = (folder / SPLIT_FILE).exists()
    except OSError:  # a name that no folder can have: the run says so
        return None
    if not there:
        return None
    stored = read_json(folder / SPLIT_FILE)
    test_ids = stored.get("test_ids")
    right = isinstance(test_ids, list) and isinstance(stored.get("hash"), dict)
    if not right or stored["hash"].get("test") != ids_hash(test_ids or ()):
        raise TaskError(
            f"{folder / SPLIT_FILE} was changed: its ids are not those that were locked.\n"
            "  Put the file back as it was; a split is made once."
        )
    return stored


def find_lock_of_texts(
    ids: Sequence[str], texts: Sequence[str], data: Any, columns: Sequence[str]
) -> Lock | None:
    """Return the lock that this user made of these texts in another working folder; None if there is none.

    Raises
    ------
    TaskError
        If its ``split.json`` was changed.
    """
    digests: list[str] = []
    for entry in split_registry.entries(columns):
        digests = digests or [split_registry.digest(text) for text in texts]
        if set(entry.digests).isdisjoint(digests):
            continue
        stored = _read_split(entry.folder)
        if stored is None:
            continue
        test = entry.test_ids(ids, digests, stored.pop("test_ids"))
        if test:
            return Lock(entry.folder, frozenset(test), stored, False, _labels_of(data, ids, columns, test))
    return None


def enter(folder: Path, ids: Sequence[str], texts: Sequence[str], columns: Sequence[str]) -> bool:
    """Enter the split of a folder where every session of this user looks; return whether it stands there."""
    stored = _read_split(folder)
    texts_of = dict(zip(ids, texts, strict=True))
    return stored is not None and split_registry.enter(folder, stored, texts_of, columns)


def gone_splits(texts: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the splits of these texts that this user made and whose ``split.json`` is gone: created, test, looks."""
    gone: dict[tuple[str, str], dict[str, Any]] = {}
    digests: list[str] = []
    for entry in split_registry.entries(columns):
        if not entry.split_hash:
            continue  # of a version that did not say which split it was
        digests = digests or [split_registry.digest(text) for text in texts]
        if not entry.holds_texts_of(digests):
            continue
        stored = _read_split(entry.folder)
        if stored is not None and stored["hash"]["test"] == entry.split_hash:
            continue
        looks = look_log.earlier_looks(entry.folder, entry.split_hash)
        own = {"created": entry.created, "test": entry.split_hash, "looks": looks}
        for one in (*entry.earlier, own):
            gone[str(one.get("created")), str(one.get("test"))] = dict(one)
    return list(gone.values())


def _labels_of(
    data: Any, ids: Sequence[str], columns: Iterable[str], test: Collection[str]
) -> dict[str, dict[str, str]]:
    return {
        name: {i: cell for i, cell in zip(ids, data[name], strict=True) if i in test and cell}
        for name in columns
    }


def make_lock(
    folder: Path,
    ids: Sequence[str],
    data: Any,
    columns: Sequence[str],
    settings: Mapping[str, Any],
    units: Sequence[str],
    strata: Sequence[str],
    in_dev: Collection[str],
    earlier: Sequence[Mapping[str, Any]] = (),
) -> Lock:
    """Split the texts, write ``split.json``, and return the lock.

    Parameters
    ----------
    settings
        test (share), by, stratify, seed.
    units, strata
        Per text what stays together, and what both halves shall have alike.
    in_dev
        Ids of texts that belong to dev whatever the draw says: worked examples of the prompt.
    earlier
        Splits of these texts that were made before and are gone (`gone_splits`).
    """
    test = _drawn(ids, units, strata, in_dev, float(settings["test"]), int(settings["seed"]))
    dev = [i for i in ids if i not in test]
    if not test or not dev:
        raise TaskError(
            f"this leaves {len(dev)} texts in dev and {len(test)} in test: one half is empty.\n"
            "  Choose another share, or smaller units (by=...)."
        )
    ordered = [i for i in ids if i in test]
    stored = {
        **settings,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "n": {"dev": len(dev), "test": len(ordered)},
        "hash": {"dev": ids_hash(dev), "test": ids_hash(ordered)},
        **({"earlier": [dict(one) for one in earlier]} if earlier else {}),
    }
    write_json(folder / SPLIT_FILE, {**stored, "test_ids": ordered})
    return Lock(folder, frozenset(test), stored, False, _labels_of(data, ids, columns, test))


def _drawn(
    ids: Sequence[str],
    units: Sequence[str],
    strata: Sequence[str],
    in_dev: Collection[str],
    share: float,
    seed: int,
) -> set[str]:
    """Return the ids of the test half: units in random order, each into the half that lacks most in its stratum."""
    members: dict[str, list[int]] = {}
    for row, unit in enumerate(units):
        members.setdefault(unit, []).append(row)
    kinds = {unit: _most(strata[row] for row in rows) for unit, rows in members.items()}
    size = {kind: sum(s == kind for s in kinds.values()) for kind in set(kinds.values())}
    order = sorted(members, key=lambda u: (-len(members[u]), _random(seed, u)))
    fixed = {u for u in order if any(ids[row] in in_dev for row in members[u])}
    have = {kind: {"dev": 0, "test": 0} for kind in size}
    whole = {"dev": 0, "test": 0}
    test: set[str] = set()
    for unit in sorted(order, key=lambda u: u not in fixed):
        n, kind = len(members[unit]), kinds[unit]
        lacks = _lacking(have[kind], n, share)
        half: Half = (
            "dev"
            if unit in fixed
            else "test"
            if (lacks or _lacking(whole, n, share) or share - 0.5) > 0
            else "dev"
        )
        have[kind][half] += n
        whole[half] += n
        if half == "test":
            test |= {ids[row] for row in members[unit]}
    return test


def _lacking(have: Mapping[str, int], n: int, share: float) -> float:
    """Return above 0 where `n` more texts bring the halves nearer to their shares in test, below 0 where in dev."""
    total = have["dev"] + have["test"] + n
    in_test, in_dev = abs(have["test"] + n - share * total), abs(have["test"] - share * total)
    return round(in_dev - in_test, 9)


def _most(kinds: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return max(sorted(counts), key=lambda kind: counts[kind])


def _random(seed: int, unit: str) -> str:
    return hashlib.sha256(f"nbannot-split:{seed}:{unit}".encode()).hexdigest()


def ids_hash(ids: Iterable[str]) -> str:
    """Return SHA-256 (hex) of a set of ids, whatever their order."""
    digest = hashlib.sha256()
    for i in sorted(ids):
        digest.update(f"{len(i)}:{i}".encode())
    return digest.hexdigest()


def test_half(ids: Sequence[str]) -> set[str]:
    """Return the ids of the test half of a task that nobody locked: half of the texts, in the order of their hashes."""
    return set(
        sorted(ids, key=lambda i: hashlib.sha256(f"nbannot-split:{i}".encode()).digest())[: len(ids) // 2]
    )


def refuse_other_settings(lock: Lock, wanted: Mapping[str, Any]) -> None:
    """Raise a TaskError where a task is to be locked again in another way."""
    differing = [name for name, value in wanted.items() if lock.settings.get(name) != value]
    if differing:
        settings = ", ".join(f"{name}={lock.settings.get(name)!r}" for name in differing)
        raise TaskError(
            f"the task was locked before, with {settings} ({lock.folder / SPLIT_FILE}); a split is made once.\n"
            f"  Use it as it is: task.lock() with the same {listed(differing)}."
        )


def level_of_look(k: int, alpha: float = 0.05) -> float:
    """Return the level of the interval at the k-th look: 1 - alpha 6 / (pi² k²), which add up to alpha over all looks.

    >>> round(level_of_look(1), 4), round(level_of_look(3), 4)
    (0.9696, 0.9966)
    """
    return 1 - alpha * 6 / (math.pi**2 * k**2)
