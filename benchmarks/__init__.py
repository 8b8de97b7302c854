"""Experiments and timings behind the README's tables; nothing else imports from here."""
