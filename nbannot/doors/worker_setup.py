"""``nbannot worker-setup``: a Slurm job that starts a Dask scheduler and workers for the runs of one person."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from nbannot.errors import ConfigError

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=nbannot-workers
#SBATCH --ntasks={workers}
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
{more}#SBATCH --output={log}
# A Dask scheduler and {workers} worker(s) for nbannot, which end with this job. Made by: nbannot worker-setup
#   sbatch {script}
# then, on the login node or in any notebook that sees the same folders:
#   nbannot run TASK --model local/models/model.gguf --workers {file}
# Keys of models' servers are taken from the environment in which sbatch is called; none is written down.
set -eu
umask 077
python={python}
file={file}
keys={keys}
rm -f "$file" "$keys"
# Whoever can speak to a scheduler can run programs as you: only holders of this file, which is yours alone, can.
"$python" -m nbannot.engine.cluster_keys "$keys"
tls=(--protocol tls --tls-ca-file "$keys" --tls-cert "$keys" --tls-key "$keys")
"$python" -m dask scheduler --scheduler-file "$file" --port 0 --no-dashboard "${{tls[@]}}" &
scheduler=$!
trap 'kill "$scheduler" 2>/dev/null || true; rm -f "$file" "$keys"' EXIT
trap 'exit 143' TERM
while [ ! -s "$file" ]; do
  kill -0 "$scheduler" || exit 1
  sleep 0.5
done
srun "$python" -m dask worker --scheduler-file "$file" --nworkers 1 --nthreads "$SLURM_CPUS_PER_TASK" \\
  --memory-limit 0 --no-dashboard --death-timeout 120 "${{tls[@]}}" &
wait $!
"""


@dataclass(frozen=True)
class Job:
    """What the job asks Slurm for.

    Attributes
    ----------
    workers
        Processes, each of which loads the model once.
    cpus, gpus
        Processors and graphics cards of each.
    time
        As Slurm reads it, e.g. ``"02:00:00"``.
    memory
        For each processor, as Slurm reads it, e.g. ``"4G"``; "" for the site's own.
    partition
        "" for the site's own.
    file
        The scheduler file that the job writes.
    """

    workers: int = 4
    cpus: int = 8
    gpus: int = 0
    time: str = "02:00:00"
    memory: str = ""
    partition: str = ""
    file: str = "nbannot-scheduler.json"

    def script(self, name: str = "nbannot-workers.sh") -> str:
        """Return the script; it works as it stands, from whichever folder it is submitted.

        Raises
        ------
        ConfigError
            If what is to stand in a line for Slurm cannot stand there, or the scheduler file has another ending.
        """
        for what, given in (("time", self.time), ("memory", self.memory), ("partition", self.partition)):
            if not re.fullmatch(r"[\w:.,-]*", given):
                raise ConfigError(f"--{what} goes into a line for Slurm. Got {given!r}.")
        if not self.file.endswith(".json") or re.search(r"[\x00-\x1f]", self.file):
            raise ConfigError(
                f"a scheduler file ends in .json. Got {self.file!r}.\n  Type --scheduler_file workers.json."
            )
        file = Path(self.file).expanduser().absolute()
        more = {
            "--gpus-per-task": str(self.gpus) if self.gpus else "",
            "--mem-per-cpu": self.memory,
            "--partition": self.partition,
        }
        return SCRIPT.format(
            workers=self.workers,
            cpus=self.cpus,
            time=self.time,
            more="".join(f"#SBATCH {option}={value}\n" for option, value in more.items() if value),
            log="nbannot-workers-%j.log",
            script=shlex.quote(name),
            python=shlex.quote(sys.executable),
            file=shlex.quote(str(file)),
            keys=shlex.quote(str(file.with_suffix(".pem"))),
        )
