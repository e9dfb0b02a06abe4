"""Files of a run that are gone, emptied or changed by hand are written again from its ledger."""

from __future__ import annotations

from nbannot.asking.ledger import Tally
from nbannot.asking.ledger_lines import read_lines
from nbannot.record import folder
from nbannot.record.probabilities import save_probabilities
from nbannot.record.run import Run
from nbannot.running.scores import save_scores, scores_are_saved
from nbannot.running.standard_files import counts_are_whole, output_text, write_counts, write_traces
from nbannot.tools.files import read_json, write_atomic, write_json


def what_is_wrong(run: Run) -> set[str]:
    """Return the files that are not as the ledger has them; ``"scores"`` stands for report, tables and labels."""
    wrong = set()
    if (run.folder / folder.LEDGER).exists():
        try:
            same = (run.folder / folder.OUTPUT).read_bytes() == output_text(run.coding).encode(
                "utf-8", "surrogatepass"
            )
        except OSError:
            same = False
        if not same:
            wrong.add(folder.OUTPUT)
        if not counts_are_whole(run.folder, run.calls):
            wrong |= {folder.TIMING, folder.CHARS}
        shares = any(a.probabilities for answers in run.coding.answers.values() for a in answers)
        if shares != (run.folder / folder.PROBABILITIES).exists():
            wrong.add(folder.PROBABILITIES)
    if wrong or not scores_are_saved(run):
        wrong.add("scores")
    return wrong


def mend(run: Run, wrong: set[str]) -> None:
    """Write the files that are wrong again, then the scores."""
    if folder.OUTPUT in wrong:
        write_atomic(run.folder / folder.OUTPUT, output_text(run.coding))
    if folder.PROBABILITIES in wrong:
        save_probabilities(run.coding, run.folder)
    if folder.TIMING in wrong:
        tally = Tally()
        for record in read_lines(run.folder / folder.LEDGER):
            if "text_id" in record:
                tally.add(record)
        write_counts(run.folder, tally)
        run.__dict__.pop("timing", None)
        if tally.reasoned:
            write_traces(run.task, run.folder, run.config)
    stored = read_json(run.folder / folder.CONFIG)
    if stored.get("status") != run.status:  # a session was killed before it could say how the run stands
        write_json(run.folder / folder.CONFIG, stored | {"status": run.status})
    save_scores(run)
