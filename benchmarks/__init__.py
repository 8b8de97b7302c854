"""Experiments and timings behind docs/benchmarks.md; nothing else imports from here."""
