"""How the modules of one process talk."""
