"""NYU Depth v2 in one command, and RGB-D folders of other layouts as HDF5; see `__main__`."""
