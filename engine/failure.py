"""The names of `engine.errors` and `engine.cli` for modules that still import them from here."""

from dataloaders import DataError
from engine.cli import run_script
from engine.errors import RunError, UserError
from models import PretrainedError

EXPECTED = (UserError, DataError, PretrainedError, OSError)
__all__ = ["EXPECTED", "RunError", "run_script"]
