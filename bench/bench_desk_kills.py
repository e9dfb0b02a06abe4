"""A desk whose process is killed (SIGKILL) at random moments: what was confirmed, and what log and CSV hold.

The confirmations are those that a browser gets. Run: python bench/bench_desk_kills.py [kills]
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbannot as nba
from nbannot.comparing.coder_log import read_log
from nbannot.desk.kept_csv import cells_of
from nbannot.desk.labels import Key, Ledger, row_of
from nbannot.study.reading import read_csv

N_TEXTS = 500
SESSION = "--session"


def task() -> nba.Task:
    """Return a task with three kinds of question."""
    import pandas as pd

    questions = [
        nba.checkbox("Judges"),
        nba.dropdown("Side", options=["for", "against"], condition=("Judges", 1)),
        nba.span("Who"),
    ]
    book = nba.Codebook.build(text_column="text", sections={"S": questions})
    ids = [f"t{i}" for i in range(N_TEXTS)]
    return nba.Task(
        pd.DataFrame({"id": ids, "text": [f"text {i} 👍🏽 end" for i in range(N_TEXTS)]}), book, name="kills"
    )


def session(seed: int) -> None:
    """Answer without end, as a browser does; print what is confirmed."""
    desk = nba.code(task(), coder="anna")
    widget = desk.widget
    draw = random.Random(seed)
    given: dict[str, Any] = {}

    def confirm(content: dict[str, Any], buffers: Any = None) -> None:
        if not content["refused"]:
            print(json.dumps(given), flush=True)

    widget.send = confirm
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        place = draw.randrange(N_TEXTS)
        start = draw.randrange(8)
        column, value = draw.choice(
            [("S_Judges", 1), ("S_Judges", 0), ("S_Who", [{"start": start, "end": start + 2}])]
        )
        given = {
            "text_id": desk.items[place].text_id,
            "column": column,
            "value": value,
            "n": f"{seed}-{number}",
        }
        widget._on_message(widget, {"act": "answer", "place": place, "seconds": 0.1, **given})


def killed(seed: int, root: Path) -> list[dict[str, Any]]:
    """Start a session, kill it at a random moment, and return what it confirmed."""
    command = [sys.executable, __file__, SESSION, str(seed)]
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(random.Random(seed).random() * 0.6)
        child.send_signal(signal.SIGKILL)
        lines = child.stdout.read().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def main(kills: int) -> None:
    """Kill so many sessions on one log, and compare after each."""
    lost = invented = unlike = confirmed = 0
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for seed in range(kills):
            told = killed(seed, root)
            confirmed += len(told)
            folder = root / "outputs/kills/coders"
            lines = read_log(folder / "anna.log.jsonl")[0]
            last = max(n for n, line in enumerate(lines) if line["action"] == "open")
            kept = [line for line in lines[last:] if line["action"] == "answer"]
            wanted = [(t["text_id"], t["column"], _places(t["value"])) for t in told]
            found = [(k["text_id"], k["column"], _places(k["value"])) for k in kept]
            lost += sum(a != b for a, b in zip(wanted, found, strict=False)) + max(
                0, len(wanted) - len(found)
            )
            invented += max(0, len(found) - len(wanted) - 1)  # one may be kept and not yet confirmed
            os.chdir(root)
            desk = nba.code(task(), coder="anna")
            book, ledger = desk.task.codebook, Ledger(read_log(desk.log_path)[0])
            rows = {row[0]: list(row[1:]) for row in read_csv(desk.path).iter_rows()}
            unlike += any(
                rows[i] != cells_of(book, row_of(book, ledger.of(Key(i)).values)) for i in desk.task.ids
            )
            desk.close()
    print(f"{kills} kills, {confirmed:,} answers confirmed:")
    print(f"  {lost} lost, {invented} invented, {unlike} times the CSV was unlike the log")


def _places(value: Any) -> Any:
    return [(s["start"], s["end"]) for s in value] if isinstance(value, list) else value


if __name__ == "__main__":
    if SESSION in sys.argv:
        session(int(sys.argv[-1]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
