"""From patches to fine maps: DeRefNet by one backend a file. numpy.py is the readable one that all others must equal."""
