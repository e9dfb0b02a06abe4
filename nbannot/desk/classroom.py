"""A class codes together: after each text the gold label, the guidance, and how many of the others agreed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbannot.desk.desk import Desk
from nbannot.desk.kept_csv import labels_in
from nbannot.desk.labels import Key, applicable, said
from nbannot.errors import DeskError


class ClassDesk(Desk):
    """A desk that shows the gold label, the guidance and the class once a text is done; the answer then stays."""

    def _start(self) -> None:
        super()._start()
        self._others: dict[Path, tuple[int, dict[str, dict[str, Any]]]] = {}

    def feedback(self, text_id: str, *, repeat: int = 1) -> list[dict[str, Any]]:
        """Return what a coder learns of a text that is done: per field the answer, the gold label, the class.

        From then on the answer stays as it is.

        Returns
        -------
        One dictionary per field that applies: ``column, name, answer, gold, guidance, class_n, class_agreed``: how many
        others coded it, and how many of them gave the same answer.

        Raises
        ------
        DeskError
            If the text is not done.
        """
        key = self._key(text_id, repeat)
        if not self.is_done(key):
            names = [self.task.codebook[column].name for column in self.open_fields(key)]
            raise DeskError(
                f"text '{text_id}' is not finished: {', '.join(names)} not answered yet.\n  Answer that first."
            )
        if not self.coded(key).shown_gold:
            self._act({"action": "shown"}, key)
        return self._told(key)

    def after(self, key: Key) -> Mapping[str, Any] | None:
        """Return the feedback on a text that is done."""
        if not self.is_done(key):
            return None
        feedback = self.feedback(key.text_id, repeat=key.repeat)
        tables = [{"title": t["name"], "rows": self._rows_told(t), "words": t["guidance"]} for t in feedback]
        return {"tables": tables, "hint": "The answer stays as it is. Enter goes on."}

    def _rows_told(self, feedback: Mapping[str, Any]) -> list[list[str]]:
        f = self.task.codebook[feedback["column"]]
        gold = "not coded" if feedback["gold"] is None else said(f, feedback["gold"])
        rows = [["you", said(f, feedback["answer"])], ["gold", gold]]
        if feedback["class_n"]:
            rows.append(
                ["class", f"{feedback['class_agreed']} of {feedback['class_n']} others said the same"]
            )
        return rows

    def _told(self, key: Key) -> list[dict[str, Any]]:
        values = self.coded(key).values
        row = self.row_number(key.text_id)
        others = [labels.get(key.text_id, {}) for labels in self._labels_of_others()]
        fields = []
        for f in applicable(self.task.codebook, values):
            answers = [other[f.column] for other in others if f.column in other]
            fields.append(
                {
                    "column": f.column,
                    "name": f.name,
                    "answer": values[f.column],
                    "gold": self.task.human(f.column)[row],
                    "guidance": f.tooltip,
                    "class_n": len(answers),
                    "class_agreed": sum(value == values[f.column] for value in answers),
                }
            )
        return fields

    def _labels_of_others(self) -> list[dict[str, dict[str, Any]]]:
        """Return the labels of the other coders; a file is read again when it has changed."""
        for path in self.path.parent.glob("*.csv"):
            if path == self.path or path.name.startswith(".") or path.name == "assignment.csv":
                continue
            try:
                changed = path.stat().st_mtime_ns
                if self._others.get(path, (0,))[0] != changed:
                    self._others[path] = (changed, labels_in(self.task, path))
            except (DeskError, OSError):
                self._others.pop(path, None)  # someone else's broken file is no reason to stop
        return [labels for _, labels in self._others.values()]
