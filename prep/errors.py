"""The one error of the three commands."""


class PrepError(Exception):
    """What is wrong, where, and how to mend it, in one sentence; a command shows it without a traceback."""


def first_line(error: BaseException) -> str:
    """The sentence of DuckDB's or a driver's error, without the advice and the settings that follow it."""
    return str(error).strip().partition("\n")[0]
