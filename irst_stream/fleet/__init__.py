"""Many sensors on many machines: a supervisor, its workers, and the places where these run."""
