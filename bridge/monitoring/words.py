"""The format of durations and of texts from outside, the same in every command."""


def latency(seconds: float | None) -> str:
    """Return a latency as text: `0.9 ms`, `12 ms`, `1.2 s`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.{0 if seconds >= 0.01 else 1}f} ms"  # noqa: PLR2004 - 10 ms


def duration(seconds: float) -> str:
    """Return a duration as text, in the largest unit that it fills: `0.4 s`, `3 h`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


def printable(text: str) -> str:
    """Return a text from outside with escapes for what a terminal would execute or hide."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def name_cell(name: str) -> str:
    """Return a text from outside as a cell of a table of rich, which takes it for no markup."""
    from rich.markup import escape

    return escape(printable(name))
