"""Writes settings.md: python -m irst_stream.docs."""

from irst_stream.docs import FOLDER, settings_page

if __name__ == "__main__":
    (FOLDER / "settings.md").write_text(settings_page(), "utf-8")
