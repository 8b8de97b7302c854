"""Commands beside train.py, eval.py and predict.py; run each as `python -m tools.<name>`."""
