"""The files of a run: writing, reading and checking them, also those of earlier versions."""
