"""Batches as files in the run's own folder, for whoever works on them elsewhere: ``vllm run-batch``, a provider's page.

The file of requests has OpenAI's form; results are read from the file beside it as soon as it holds one for each of
them. Nothing is sent from here.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nbannot.asking.batch_lines import SentBatch
from nbannot.models.batch_files import FileBatches
from nbannot.models.batch_service import BatchLook, Note
from nbannot.models.exchange import Exchange
from nbannot.tools.json_bytes import unpacked

if TYPE_CHECKING:
    from nbannot.models.openai_compatible import OpenAIModel

REQUESTS = "batch-{}.jsonl"
RESULTS = "batch-{}.results.jsonl"


class LocalBatches(FileBatches):
    """Files of requests in a folder, and of results beside them."""

    def __init__(self, model: OpenAIModel, folder: Path) -> None:
        super().__init__(model)
        self.folder, self.where = folder, "files in the run's folder"
        self.requests, self.size = 1_000_000, 1_000_000_000

    async def submit(self, batch: SentBatch, upload: Path, note: Note) -> tuple[str, Exchange]:
        """Put the file where it is found."""
        try:
            shutil.copyfile(upload, self.folder / REQUESTS.format(batch.mark))
        except OSError as error:
            return "", Exchange(400, error=f"{self.folder} cannot be written: {error.strerror}")
        return batch.mark, Exchange(200)

    async def find(self, batch: SentBatch, known: Collection[str]) -> str:
        """Return the batch whose file is there; a part of one is written again."""
        whole = _names(self.folder / REQUESTS.format(batch.mark)) >= set(batch.names)
        return batch.mark if whole else ""

    async def look(self, batch: SentBatch) -> BatchLook:
        """Return whether there is a result for every request."""
        results = self.folder / RESULTS.format(batch.provider_id)
        if not results.exists() or not _names(results) >= set(batch.names):
            return BatchLook("working")
        return BatchLook("ended", "completed", "", (str(results),))

    async def fetch(self, look: BatchLook, to: IO[bytes]) -> Exchange:
        """Read the results; the file stays."""
        with Path(look.results[0]).open("rb") as file:
            shutil.copyfileobj(file, to)
        return Exchange(200)

    def how(self, marks: Collection[str]) -> str:
        """Return what to do with the files."""
        mark = next(iter(marks))
        source, results = (shlex.quote(str(self.folder / name.format(mark))) for name in (REQUESTS, RESULTS))
        return f"for instance: vllm run-batch -i {source} -o {results} --model {shlex.quote(self.model.name)}"


def _names(path: Path) -> set[str]:
    """Return the names of requests, without the mark of their batch, that the whole lines of a file bear."""
    names: set[str] = set()
    try:
        with path.open("rb") as lines:
            for line in lines:
                try:
                    told: Any = unpacked(line)
                    names.add(str(told["custom_id"]).partition("-")[2])
                except (ValueError, TypeError, KeyError):
                    continue  # the end of a file that is being written
    except OSError:
        return set()
    return names
