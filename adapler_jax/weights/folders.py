"""Open a model's folder: of this library, or of another program, whose models run all tokens.

Such a folder has a trained head: a class of transformers for whole texts or for tags of tokens, or
the modules of sentence-transformers. None of its files is changed.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from adapler_jax.data.tokenization.tokenizer_files import read_settings
from adapler_jax.heads import Head, embedding
from adapler_jax.io.atomic_directories import recover
from adapler_jax.weights.config import CONFIG_FILE, read_class_names, read_json
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import (
    DEFAULT_MAX_LENGTH,
    Saved,
    check_class_names,
    class_names_of,
    load_model,
    num_outputs_of,
)
from adapler_jax.weights.score_heads import (
    PROBLEM_TYPE,
    REGRESSION_TYPE,
    count_outputs,
    head_of_checkpoint,
)
from adapler_jax.weights.section import (
    SECTION,
    SINGLE_TEXTS,
    head_of,
    is_for_texts,
    is_for_tokens,
    read_section,
)
from adapler_jax.weights.sentence_modules import is_sentence_folder, read_modules


class Description(NamedTuple):
    """A model without its weights, as its files describe it."""

    head: Head
    class_names: tuple[str, ...] | None  # in the order of the logits; None without classes
    task: str | None  # that a saved model of this library names
    extra: dict[str, Any]  # JSON values of its writer
    is_for_pairs: bool  # a reranker: one number, and not of single texts


def describe_folder(directory) -> Description:
    """Return what config.json says of a model that `load_folder` loads.

    Raises:
      ValueError: it is damaged, or describes no trained head that is run here.
    """
    directory = _resolve(directory)
    path = directory / CONFIG_FILE
    raw = read_json(path)
    is_foreign = is_for_texts(raw) or is_for_tokens(raw) or is_sentence_folder(directory)
    if SECTION in raw or not is_foreign:
        section = read_section(raw, path)
        names, extra = class_names_of(directory), section["extra"]
        is_for_pairs = names is None and not extra.get(SINGLE_TEXTS)
        return Description(head_of(section), names, section["task"], extra, is_for_pairs)
    head = head_of_checkpoint(directory)
    names = None
    if head.has_classes:
        names = read_class_names(raw, path, takes_numbers=True)
        names = names or check_class_names(None, count_outputs(raw))
    # A trainer of transformers names the problem, and the texts may be single ones.
    is_for_pairs = names is None and raw.get(PROBLEM_TYPE) != REGRESSION_TYPE
    return Description(head, names, None, {}, is_for_pairs)


def load_folder(directory, head: Head | None = None) -> Saved:
    """Load a saved model of this library, or a model of another program with all its tokens.

    Args:
      directory: of the model.
      head: of another program's model; None for the one that its files describe.

    Raises:
      ValueError: the model is damaged, or as in `describe_folder`.
    """
    directory = _resolve(directory)
    if SECTION in read_json(directory / CONFIG_FILE):
        return load_model(directory)
    head = head or describe_folder(directory).head
    loaded = load_pretrained(directory, jax.random.key(0), head=head)
    if loaded.fresh:
        reasons = "; ".join(f"{part}: {reason}" for part, reason in loaded.fresh.items())
        raise ValueError(
            f"{directory} lacks a part of its head: {reasons}; give a fine-tuned model, or train "
            "one with `adapler train`"
        )
    if head.name == "embedding":
        longest, extra = settings_of_modules(directory)
    else:
        longest, extra = length_of_tokenizer(directory), {}
    names = None
    if head.has_classes:
        names = check_class_names(loaded.class_names, num_outputs_of(loaded.params))
    return Saved(
        config=loaded.config,
        params=loaded.params | {"pruner": {}},
        pruner_name="keep_all",
        pruner_options={},
        head=head,
        class_names=names or (),
        max_length=int(min(longest or DEFAULT_MAX_LENGTH, loaded.config.num_positions)),
        task=None,
        extra=extra,
        directory=directory,
    )


def embedding_head(directory: Path, pooling: str | None = None) -> Head:
    """Return the head of a model of vectors.

    Args:
      directory: of the model.
      pooling: of a plain encoder, whose folder does not say how tokens become a vector.

    Raises:
      ValueError: the model has another head, a pooling is missing, or there are two.
    """
    raw = read_json(directory / CONFIG_FILE)
    is_own, has_modules = SECTION in raw, is_sentence_folder(directory)
    if pooling is not None and (is_own or has_modules):
        raise ValueError(f"pooling is {pooling!r:.60}, and {directory} names its own; leave it out")
    if is_own or has_modules:
        head = head_of_checkpoint(directory)
        if head.name != "embedding":
            raise ValueError(
                f"{directory} holds a model with the head {head.name!r}, which gives no vectors"
            )
        return head
    if pooling is None:
        raise ValueError(
            f"{directory} has no modules.json of sentence-transformers, so it does not say how "
            "tokens become a vector; give pooling='mean' or 'cls'"
        )
    return embedding(pooling, normalizes=False)


def settings_of_modules(directory: Path) -> tuple[int | None, dict]:
    """Return the length of texts and the prompts of a folder's modules; none without modules."""
    if not is_sentence_folder(directory):
        return None, {}
    found = read_modules(directory)
    return found.max_length, found.extra


def length_of_tokenizer(directory: Path) -> int:
    """Return the token slots that a tokenizer's files name; DEFAULT_MAX_LENGTH without any."""
    return read_settings(directory).fields.get("model_max_length", DEFAULT_MAX_LENGTH)


def _resolve(directory) -> Path:
    """Return the path of a folder, or of the previous one if a kill interrupted a save."""
    return recover(Path(directory).expanduser().resolve())
