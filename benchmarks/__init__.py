"""Experiments and timings behind the tables of docs/benchmarks.md; nothing else imports from here."""
