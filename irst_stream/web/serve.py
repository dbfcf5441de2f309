"""The page's server, as [view] of a configuration says."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from irst_stream.errors import UsageError
from irst_stream.http_settings import ViewSettings
from irst_stream.live.http_server import Handler, HttpServer
from irst_stream.web.routes import PAGE_FILES, file_handlers

__all__ = ["how_to_enter", "read_token", "serve_page"]

MIN_TOKEN = 16  # characters
MAX_TOKEN = 512


def serve_page(handlers: Mapping[str, Handler], view: ViewSettings) -> HttpServer:
    """Serve the page until closed. handlers: of its requests by path, see routes.feed_handlers, and any others."""
    token = read_token(view.token_file)
    return HttpServer("view", file_handlers() | dict(handlers), view.host, view.port, token=token, open_paths=PAGE_FILES)


def how_to_enter(view: ViewSettings) -> str:
    """What a line that names the page's address adds where a token is asked for."""
    return f", which asks for the token in {view.token_file}" if view.token_file else ""


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
