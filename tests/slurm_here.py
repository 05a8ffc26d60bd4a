"""A Slurm cluster of one machine: the commands that datatrove calls, as scripts that run jobs at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# sbatch keeps the script it is given, runs every rank of its array, and says the job's number.
SBATCH = """#!/bin/bash
for last; do :; done
cp "$last" "{folder}/job-$$.slurm"
grep -q merge_stats "$last" && {{ echo "Submitted batch job 0"; exit; }}
array=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$last")
for i in $(seq 0 "${{array:-0}}"); do
  SLURM_ARRAY_TASK_ID=$i SLURM_NODELIST=here RUN_OFFSET=0 bash "$last" >> "{folder}/jobs.log" 2>&1
done
echo "Submitted batch job $$"
"""
LOST = """#!/bin/bash
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/bash
while [[ "$1" == -* ]]; do if [[ "$1" == -n ]]; then shift; fi; shift; done
exec "$@"
"""
SCONTROL = "#!/bin/bash\necho here\n"
SQUEUE = "#!/bin/bash\nexit 0\n"  # jobs are over when sbatch returns


def install(folder: Path, works: bool = True) -> dict[str, str]:
    """Write the commands to a folder; return the PATH that finds them, as an environment.

    Args:
        folder: for the commands, and a copy of every script they are given.
        works: run the jobs; otherwise they are lost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scripts = {
        "sbatch": (SBATCH if works else LOST).format(folder=folder),
        "srun": SRUN,
        "scontrol": SCONTROL,
        "squeue": SQUEUE,
    }
    for name, content in scripts.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    return {"PATH": os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])}
