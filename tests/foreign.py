"""Make folders as transformers writes them: without a section of this library, and without card."""

import json

from adapler_jax.heads import CLASSIFICATION
from tests.export.onnx_models import save_tiny

NAMES = ("bad", "so-so", "good")
TEXTS = ["w1 w2 w3", "w7", "", "w5 w6 " * 20]
PAIRS = [("w1 w2", "w3"), ("w1 w2", "w9 w4 w5"), ("w8", "w3")]


def save_foreign(directory, *, head=CLASSIFICATION, class_names=NAMES, **changes):
    """Save a random model as another program does; return its folder.

    Args:
      directory: to write.
      head: of the model.
      class_names: empty for a head without classes.
      **changes: of config.json; None removes a key.
    """
    options = {"class_names": class_names} if class_names else {}
    save_tiny(directory, "keep_all", head=head, max_length=12, **options)
    path = directory / "config.json"
    raw = json.loads(path.read_text()) | changes
    del raw["adapler_jax"]
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))
    (directory / "README.md").unlink()
    return directory
