"""The texts of a compression as files, with the answers of the given model as labels."""

import json
import pathlib
from collections.abc import Callable, Iterable, Mapping

from adapler_jax.io.atomic_directories import atomic_directory
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.io.heartbeat import Heartbeat

PIECE = 1024  # texts that are predicted between two updates of the progress

Label = str | float | list[str] | list[float]


def write_labelled(
    parts: Mapping[str, list],
    directory: pathlib.Path,
    predict: Callable[[list], Iterable[Label]],
    log,
) -> None:
    """Write the texts of the training with the labels that the full model predicts.

    Args:
      parts: texts by split.
      directory: to write, unless it has all of them.
      predict: (texts) -> labels.
      log: receives notes.
    """
    if (directory / "validation.jsonl").exists():
        return
    done, total = 0, sum(map(len, parts.values()))
    log(f"predicting {total:,} texts by the given model")
    with (
        Heartbeat(lambda: f"predicted by the given model: {done:,} of {total:,} texts", log=log),
        atomic_directory(directory) as partial,
    ):
        for split, texts in parts.items():
            rows: list[dict[str, Label]] = []
            for start in range(0, len(texts), PIECE):
                piece = texts[start : start + PIECE]
                rows += map(labelled_row, piece, predict(piece))
                done += len(piece)
            replace_text(
                partial / f"{split}.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows)
            )


def check_texts(parts: dict[str, list], out: pathlib.Path) -> None:
    """Raise ValueError where an earlier call divided other texts: some would count twice."""
    for split, texts in parts.items():
        lines = (out / "texts" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        there = [row | {"label": ""} for row in map(json.loads, lines)]
        if there != list(map(labelled_row, texts)):
            raise ValueError(
                f"{out} has work on other texts; give the same texts, or another --out"
            )


def labelled_row(text: str | tuple[str, str], label: Label = "") -> dict[str, Label]:
    """Return a text or pair with its label, in the columns of the tasks for a user's own texts."""
    if isinstance(text, str):
        return {"text": text, "label": label}
    return {"text": text[0], "text_pair": text[1], "label": label}
