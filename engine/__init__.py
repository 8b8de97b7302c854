"""Training, evaluation and checkpoints: what train.py, eval.py and predict.py call."""
