"""Saying how far a run is: often enough for a person who waits, seldom enough for the event log."""

from collections.abc import Callable, Sequence
from time import monotonic

from knowledge.documents.intake import Failure

_SECONDS = 5.0
_ROWS = 200


def paced(say: Callable[[str], None], seconds: float = _SECONDS) -> Callable[[str], None]:
    """`say`, at most once in so many seconds: what comes between is left out."""
    last = monotonic()

    def maybe(sentence: str) -> None:
        nonlocal last
        if monotonic() - last >= seconds:
            last = monotonic()
            say(sentence)

    return maybe


def failures_markdown(failures: Sequence[Failure]) -> str:
    """Documents with what is to be said of each, as a Markdown table; the first 200, and how many more there are."""
    if not failures:
        return "none"
    rows = [f"| {_cell(failure.uri)} | {_cell(failure.reason)} |" for failure in failures[:_ROWS]]
    more = [f"\n… and {len(failures) - _ROWS} more: see `knowledge.documents`."] if len(failures) > _ROWS else []
    return "\n".join(["| document | reason |", "|---|---|", *rows, *more])


def list_markdown(names: Sequence[str]) -> str:
    """Names as a Markdown list; the first 200, and how many more there are."""
    rows = [f"- `{name}`" for name in names[:_ROWS]]
    return "\n".join([*rows, *([f"- … and {len(names) - _ROWS} more"] if len(names) > _ROWS else [])]) or "none"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
