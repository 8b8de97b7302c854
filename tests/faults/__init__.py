"""What goes wrong on purpose: inputs and events, each with the outcome that it should have."""
