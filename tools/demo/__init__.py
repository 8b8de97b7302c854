"""A page to try a network in the browser: `python -m tools.demo --resume CHECKPOINT`.

Gradio is imported by `page` alone; the rest, and `engine`, work without it.
"""
