"""What an output file's suffix promises; only a suffix of another format is refused, so that devices and any names do."""

from __future__ import annotations

from pathlib import PurePath

__all__ = ["JSON_DOCUMENT", "JSON_LINES", "RECORDING", "suffix_fault"]

JSON_LINES = (".jsonl", ".ndjson", ".json")
JSON_DOCUMENT = (".json",)
RECORDING = (".mcap",)
FORMATS = {
    *(*JSON_LINES, *RECORDING, ".csv", ".tsv", ".txt", ".parquet", ".rrd", ".xlsx", ".xml", ".html", ".md", ".pdf"),
    *(".toml", ".yaml", ".yml", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".fits", ".raw", ".bin", ".dat", ".safetensors"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".svg", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"),
    *(".gz", ".bz2", ".xz", ".zst", ".zip", ".tar"),
}


def suffix_fault(name: str, own: tuple[str, ...]) -> str:
    """Return what is wrong with an output's name, "" if nothing is; own: suffixes of its format, the usual one first."""
    suffix = PurePath(name).suffix.lower()
    if suffix in FORMATS and suffix not in own:
        return f"expected a name that ends in {own[0]}; {suffix} promises another format"
    return ""
