"""The compiled copy of Pillow's arithmetic: `compiled` for arrays, `kernels` for its loops."""
