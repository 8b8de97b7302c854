"""Sample sets: folders of ray-cast frames in a published HDF5 layout, written by this project.

`rooms` and `streets` hold what is theirs; the modules here what they have in common: solids,
textures, scenes, cameras and ray casting, then the description, files and command of a set. A
frame depends on the seed, its split and its index only, so a larger set begins with the frames of
a smaller one, any number of workers writes the same data, and what an interruption left out is made
by the next run.
"""
