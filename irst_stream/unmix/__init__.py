"""Run DeRefNet, from patches to fine maps, with one file per backend; numpy.py is the reference for all others."""
