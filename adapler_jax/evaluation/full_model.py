"""The full model of a certificate: what answers are compared with, and where texts run again."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.inference.calibration import FULL, FULL_IS_MISSING, OWN, Calibration
from adapler_jax.inference.loading import threshold_of
from adapler_jax.io.atomic_directories import (
    atomic_directory,
    copy_entries,
    have_equal_files,
    recover,
)
from adapler_jax.io.atomic_files import remove_file
from adapler_jax.weights.config import (
    CALIBRATION_FILE,
    EXPORT_FOLDERS,
    EXPORTS_FILE,
    FULL_FOLDER,
    MODEL_FILES,
)
from adapler_jax.weights.save import Saved, load_model

NUM_COMPARED = 100  # texts whose tokens are compared


def load_full_model(
    saved: Saved,
    reference,
    earlier: Calibration | None,
    texts: Sequence[str | tuple[str, str]],
    *,
    log: Callable[[str], None],
) -> Saved:
    """Return the model that answers are compared with; `saved` where it is no other one.

    Args:
      saved: the model that is certified.
      reference: directory of the full model; None for the one in the folder `full`.
      earlier: calibration of `saved`.
      texts: of the task, or pairs.
      log: receives a sentence.

    Raises:
      ValueError: it has other classes, another tokenizer or length, or fewer layers; or it is
        missing.
    """
    kept = saved.directory / FULL_FOLDER
    if reference is None and recover(kept).exists():
        reference = kept
    if reference is None:
        if earlier is not None and earlier.needs_full:
            raise ValueError(FULL_IS_MISSING)
        return saved
    full = load_model(reference)
    log(f"answers are compared with the full model {reference}")
    for name, own, other in (
        ("head", saved.head.name, full.head.name),
        ("classes", saved.class_names, full.class_names),
        ("tokens in its vocabulary", saved.config.vocab_size, full.config.vocab_size),
        ("max_length", saved.max_length, full.max_length),
    ):
        if own != other:
            raise ValueError(f"{name} of the full model {reference}: {other}; of this model: {own}")
    if full.config.num_layers < saved.config.num_layers:
        raise ValueError(f"the full model {reference} has fewer layers than this model")
    _check_tokenizers(saved, full, texts[:NUM_COMPARED])
    return full


def _check_tokenizers(saved: Saved, full: Saved, texts: Sequence[str | tuple[str, str]]) -> None:
    """Raise ValueError if a text has other tokens in the full model."""
    cores = [load_core(model.directory) for model in (saved, full)]
    for text in texts:
        first, second = (text, None) if isinstance(text, str) else text
        own, other = (core.encode(first, second).ids for core in cores)
        if own != other:
            raise ValueError(
                f"the tokenizer of the full model {full.directory} has other tokens for "
                f"{text!r:.60} than this model's; give the model that this one was made from"
            )


def escalation_of(asked: str | None, saved: Saved, full: Saved, log: Callable[[str], None]) -> str:
    """Return what uncertain texts run again on: as asked, if the full model is another one."""
    if asked not in (None, FULL) or full is saved or _have_equal_weights(saved, full):
        return OWN
    if threshold_of(full, None) != threshold_of(saved, None):
        log("the full model has another decision threshold, so no text runs again on it")
        return OWN
    return FULL


def _have_equal_weights(saved: Saved, full: Saved) -> bool:
    """Return whether encoder and head are equal, as after a method without training.

    With all tokens such a model is the full model, so that no copy of it is needed.
    """
    trees = [{part: one.params[part] for part in ("encoder", "head")} for one in (saved, full)]
    own, other = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in trees)
    return (
        saved.config == full.config
        and own.keys() == other.keys()
        and all(np.array_equal(leaf, other[name]) for name, leaf in own.items())
    )


def keep_full(calibration: Calibration, full: Saved, directory) -> None:
    """Copy the full model into a model's directory, if its certificate runs texts again on it."""
    kept = directory / FULL_FOLDER
    if calibration.needs_full and not have_equal_files(kept, full.directory, MODEL_FILES):
        remove_file(directory / CALIBRATION_FILE)  # its certificate is about another full model
        with atomic_directory(kept) as partial:
            copy_entries(full.directory, partial, skip=(FULL_FOLDER, *EXPORT_FOLDERS, EXPORTS_FILE))
