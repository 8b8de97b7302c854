"""What train.py and eval.py share, one file a subject."""
