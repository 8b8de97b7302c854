"""Implementations of the propagation; `cspn.propagation` chooses among them."""
