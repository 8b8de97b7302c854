"""Check a data set: `python -m tools.check_data`."""
