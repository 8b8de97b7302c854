"""Depth for images outside of a data set: predictor, files and point clouds."""
