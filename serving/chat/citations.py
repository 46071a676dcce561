"""The `[n]` marks in a model's answer: kept where the evidence exists, removed where it does not."""

from __future__ import annotations

import re

# [1], [1, 2], [1][2], 【1】, ［1］, and what could still become one of them at the end of a piece of text.
_MARK = re.compile(r"[ \t]?[\[【［]\^?(\d{1,3}(?:\s*[,，、]\s*\d{1,3})*)[\]】］]")
_OPEN_TAIL = re.compile(r"[ \t]?(?:[\[【［]\^?(?:\d{1,3}(?:\s*[,，、]\s*\d{0,3})*)?\s*)?$")
_TICKS_TAIL = re.compile(r"`+$")


class CitationMarks:
    """Filters an answer while it streams. `cited` holds the valid numbers in the order they first came up.

    Inside code (fenced or inline) brackets are code: `items[0]` is left alone.
    """

    def __init__(self, available: int) -> None:
        self.cited: list[int] = []
        self._available = available
        self._held = ""
        self._fence = ""  # the backticks that opened the code which the text is in

    def feed(self, piece: str) -> str:
        """The text that is ready; a mark that may not be whole yet is held back."""
        text = self._held + piece
        tail = _TICKS_TAIL.search(text) or (None if self._fence else _OPEN_TAIL.search(text))
        cut = tail.start() if tail else len(text)
        ready, self._held = text[:cut], text[cut:]
        return self._filter(ready)

    def end(self) -> str:
        """What was held back."""
        rest, self._held = self._held, ""
        return self._filter(rest)

    def _filter(self, text: str) -> str:
        parts: list[str] = []
        for run in re.split(r"(`+)", text):
            if run.startswith("`"):
                if not self._fence:
                    self._fence = run
                elif self._fence == run:
                    self._fence = ""
                parts.append(run)
            else:
                code, text = self._split(run)
                parts += [code, _MARK.sub(self._replace, text)]
        return "".join(parts)

    def _split(self, run: str) -> tuple[str, str]:
        """What of a run is code, and what is text: inline code that was never closed ends with its line."""
        if not self._fence:
            return "", run
        if len(self._fence) < 3 and "\n" in run:
            self._fence = ""
            end = run.index("\n")
            return run[:end], run[end:]
        return run, ""

    def _replace(self, match: re.Match[str]) -> str:
        numbers = [int(number) for number in re.findall(r"\d+", match[1])]
        valid = [number for number in numbers if 1 <= number <= self._available]
        for number in valid:
            if number not in self.cited:
                self.cited.append(number)
        before = match[0][0] if valid and match[0][0] in " \t" else ""
        return before + "".join(f"[{number}]" for number in valid)
