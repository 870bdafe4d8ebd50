"""What a step holds while Metaflow stores a parquet file as an artifact: storing.py run --file FILE.

Metaflow stores when the step is over. The peak less that of a tiny file is what the storing takes.
"""

import sys
from pathlib import Path

from metaflow import FlowSpec, Parameter, step

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prep.split.artifacts import stored_file


class StoringFlow(FlowSpec):
    """One artifact, stored as DataPrepFlow stores its tables."""

    FILE = Parameter("file", required=True)

    @step
    def start(self):
        """Take the file."""
        self.table = stored_file(Path(self.FILE))
        self.next(self.end)

    @step
    def end(self):
        """Do nothing."""


if __name__ == "__main__":
    StoringFlow()
