"""What is wrong with data, as one sentence."""


class DataError(ValueError):
    """Data that is missing or does not keep the contract; the message is one sentence."""


def counted(count: int, noun: str) -> str:
    """Return "1 point" or "5 points", for sentences."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def printable(name: str) -> str:
    """Return a name as it may stand in a sentence: no control characters, 160 letters at most."""
    name = name if name.isprintable() else repr(name)
    return name if len(name) <= 160 else f"{name[:120]}... ({len(name)} characters)"
