"""Open a model of vectors: of this library, of sentence-transformers, or a plain encoder."""

from pathlib import Path

import jax

from adapler_jax.heads import Head, embedding
from adapler_jax.weights.config import CONFIG_FILE, read_json
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import DEFAULT_MAX_LENGTH, Saved, load_model
from adapler_jax.weights.section import SECTION, head_of, read_section
from adapler_jax.weights.sentence_modules import is_sentence_folder, read_modules


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
    if is_own:
        head = head_of(read_section(raw, directory / CONFIG_FILE))
        if head.name != "embedding":
            raise ValueError(
                f"{directory} holds a model with the head {head.name!r}, which gives no vectors"
            )
        return head
    if has_modules:
        return read_modules(directory).head
    if pooling is None:
        raise ValueError(
            f"{directory} has no modules.json of sentence-transformers, so it does not say how "
            "tokens become a vector; give pooling='mean' or 'cls'"
        )
    return embedding(pooling, normalizes=False)


def load_embedder(directory: Path, pooling: str | None = None) -> Saved:
    """Load a model of vectors with all its tokens, or a saved model of this library as it is.

    Args:
      directory: of the model.
      pooling: as in `embedding_head`.

    Raises:
      ValueError: the model is damaged, or as in `embedding_head`.
    """
    head = embedding_head(directory, pooling)
    if SECTION in read_json(directory / CONFIG_FILE):
        return load_model(directory)
    loaded = load_pretrained(directory, jax.random.key(0), head=head)
    check_complete(directory, loaded.fresh)
    max_length, extra = settings_of_modules(directory)
    return Saved(
        config=loaded.config,
        params=loaded.params | {"pruner": {}},
        pruner_name="keep_all",
        pruner_options={},
        head=head,
        class_names=(),
        max_length=min(max_length or DEFAULT_MAX_LENGTH, loaded.config.num_positions),
        task=None,
        extra=extra,
        directory=directory,
    )


def settings_of_modules(directory: Path) -> tuple[int | None, dict]:
    """Return the length of texts and the prompts of a folder's modules; none without modules."""
    if not is_sentence_folder(directory):
        return None, {}
    found = read_modules(directory)
    return found.max_length, found.extra


def check_complete(directory: Path, fresh) -> None:
    """Raise ValueError where a dense layer that the modules name has no weights."""
    if fresh:
        raise ValueError(f"{directory} lacks {', '.join(fresh)}, which its head needs")
