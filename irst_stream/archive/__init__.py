"""Many recordings at once: split into pieces, computed by many workers, joined into what a single run would give."""
