"""Nonsense in the place of a run, a task, a list or a path is answered in words, at every public function."""

import inspect

import pandas as pd
import pytest

import nbannot as nba


def test_every_public_function_refuses_nonsense_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = nba.run("policy-sentiment", model="mock", limit=12, fields=["Direction"])
    nonsense = [None, 3, object(), pd.DataFrame()]
    for name in sorted(set(nba.__all__) - {"configure"}):
        function = getattr(nba, name)
        if inspect.isclass(function) or not callable(function):
            continue
        needed = [
            p for p in inspect.signature(function).parameters.values() if p.default is p.empty and p.kind < 2
        ]
        tried = [[one] * max(1, len(needed)) for one in nonsense]
        tried += [[run, one] for one in nonsense if len(needed) == 2]
        for given in tried:
            try:
                function(*given)
            except nba.NbannotError:
                continue
            except TypeError as error:
                inside = error.__traceback__.tb_next  # else Python's own: an argument is missing
                if inside is not None:
                    pytest.fail(f"{name}{given}: {error!r}")
            except Exception as error:  # noqa: BLE001 - any other is what this looks for
                pytest.fail(f"{name}{given}: {error!r}")
