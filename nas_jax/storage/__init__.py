"""Files of a run: what is written and read, how it is checked, and what earlier versions wrote."""
