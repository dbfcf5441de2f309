"""How tests look at streams that end in an error."""

from irst_stream import IrstError


def until_error(stream, kind=IrstError):
    """What the stream delivered, and the one line of the error that ended it."""
    got = []
    try:
        for item in stream:
            got.append(item)  # noqa: PERF402 - they must survive the error
    except kind as error:
        text = str(error)
        if "\n" in text:
            raise AssertionError(f"more than one line: {text}") from error
        return got, text
    raise AssertionError(f"no {kind.__name__} after {len(got)} items")
