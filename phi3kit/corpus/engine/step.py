"""A stage as a step of a datatrove pipeline: what its executors carry to a process, a node or a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from phi3kit.corpus.engine.stage import Stage, run_rank


class StageStep(PipelineStep):
    """Runs one rank of a stage.

    Args:
        stage: what to do.
        folder: of the stage.
    """

    type = "phi3kit"

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.name = stage.name
        super().__init__()
        self.stage, self.folder = stage, folder

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Do this rank's work; nothing is passed on, stages exchange files."""
        with self.track_time():
            run_rank(self.stage, rank, self.folder)
        return ()
