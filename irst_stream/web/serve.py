"""The page's server, as [view] of a configuration says."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from irst_stream.config import ViewSettings
from irst_stream.errors import UsageError
from irst_stream.live.http_server import Handler, HttpServer
from irst_stream.web.routes import PAGE_FILES, page_handlers
from irst_stream.web.views import Feed

__all__ = ["read_token", "serve_page"]

MIN_TOKEN = 16  # characters
MAX_TOKEN = 512


def serve_page(feed: Feed, view: ViewSettings, more: Mapping[str, Handler] | None = None) -> HttpServer:
    """Serve the page of a feed, and more handlers by their path, until closed."""
    handlers = page_handlers(feed, view.frames_per_s) | dict(more or {})
    token = read_token(view.token_file)
    return HttpServer("view", handlers, view.host, view.port, token=token, open_paths=PAGE_FILES)


def read_token(path: str) -> str:
    """The token in a file, made if the file is missing, readable by its owner only; "" for no file."""
    if not path:
        return ""
    try:
        if not Path(path).exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"{secrets.token_urlsafe(24)}\n")
        if Path(path).stat().st_mode & 0o077:
            raise UsageError(f"view.token_file: {path} can be read by others; expected mode 600")
        token = Path(path).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "expected ASCII"
        raise UsageError(f"view.token_file: {path}: {reason}") from error
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN or not token.isprintable() or " " in token:
        raise UsageError(f"view.token_file: {path}: expected {MIN_TOKEN} to {MAX_TOKEN} characters without spaces")
    return token
