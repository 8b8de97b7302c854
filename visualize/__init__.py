"""Pictures, curves and reports of runs and evaluations."""
