"""Check of streams that end in an error."""

from irst_stream import IrstError


def collect_until_error(stream, kind=IrstError):
    """Collect the items of a stream until it raises `kind`; return the items and the message, which must be one line."""
    items = []
    try:
        for item in stream:
            items.append(item)  # noqa: PERF402 - the items before the error are needed
    except kind as error:
        text = str(error)
        if "\n" in text:
            raise AssertionError(f"expected one line, got {text}") from error
        return items, text
    raise AssertionError(f"expected {kind.__name__}, the stream ended after {len(items)} items")
