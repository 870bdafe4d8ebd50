"""A flow of three steps that do nothing: what Metaflow's start-up costs."""

from metaflow import FlowSpec, step


class EmptyFlow(FlowSpec):
    """Three steps, as DataPrepFlow has."""

    @step
    def start(self):
        """Do nothing."""
        self.next(self.get_dataset)

    @step
    def get_dataset(self):
        """Do nothing."""
        self.next(self.end)

    @step
    def end(self):
        """Do nothing."""


if __name__ == "__main__":
    EmptyFlow()
