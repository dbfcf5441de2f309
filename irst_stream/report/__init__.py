"""Reports: scores, profiles and recordings of one or several runs as one HTML file."""
