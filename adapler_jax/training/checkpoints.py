"""Keep the checkpoints of a phase: the last complete state, and the weights of the best epochs."""

import json
import math
import pathlib
import shutil
import sys
from collections.abc import Callable

import jax
import orbax.checkpoint as ocp

from adapler_jax.io.atomic_files import damaged_files, flush_names, write_checksums
from adapler_jax.training.steps import TrainState

LAST, BEST = "last", "best"
ITEM, METRICS = "default", "metrics"  # parts of a step's directory, as orbax names them
CHECKSUMS = "checksums.sha256"
REACHED = "reached_step"  # saved with an epoch's scores: the first step of its rank
PARTIAL, REMOVED = ".partial", ".removed"
MARGIN_BYTES = 2**21  # for metadata, and other files of the run


def print_note(line: str) -> None:
    """Print a line to standard error."""
    print(line, file=sys.stderr)


def require_space(directory: pathlib.Path, tree) -> None:
    """Check that the disk has room for the arrays of a tree, before orbax fails halfway.

    Raises:
      OSError: it has not.
    """
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + MARGIN_BYTES
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(
            f"{directory}: a checkpoint needs {needed / 2**20:.1f} MiB and the disk has "
            f"{free / 2**20:.1f} left; make room and give the same command again: "
            "it continues from the last checkpoint"
        )


class Checkpoints:
    """The last state of a phase in `last/`, the parameters of its best epochs in `best/`.

    Of equal ranks the later epoch is better. A step is written under another name, with the
    checksums of its files, and renamed when complete. It is renamed again before its removal. A
    kill or a full disk leaves the previous step intact.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        num_checkpoints: int,
        log: Callable[[str], None] = print_note,
    ):
        """Open the checkpoints of a phase, and remove incomplete ones that a kill left.

        Args:
          directory: of the phase; it may not exist.
          num_checkpoints: epochs whose parameters are kept.
          log: receives a note on removed or unused files.

        Raises:
          ValueError: a file of a kept epoch is damaged.
        """
        self._directory, self._num_checkpoints, self._log = directory, num_checkpoints, log
        self._orbax = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        for kind in (LAST, BEST):
            _remove_leftovers(directory / kind)
        self._scores = self._read_best()

    def save_last(self, state: TrainState) -> None:
        """Write the state, unless this step exists already."""
        step, there = int(state.step), _steps_in(self._directory / LAST)
        if step not in there:
            self._save(LAST, step, state)
        for other in set(there) - {step}:
            self._remove(LAST, other)

    def save_best(self, state: TrainState, scores: dict) -> None:
        """Write the parameters of an epoch if its rank is among the highest so far.

        A negative scores["rank"] is never written. The scores, floats or lists of floats, are saved
        with the parameters.
        """
        step = int(state.step)
        if scores["rank"] < 0 or step in self._scores:
            return
        scores = scores | {REACHED: min([step, *self._reached_by(scores["rank"])])}
        kept = _ranked(self._scores | {step: scores})[: self._num_checkpoints]
        if step in kept:
            self._save(BEST, step, state.params, scores=scores)
            self._scores[step] = scores
        for other in set(self._scores) - set(kept):
            self._remove(BEST, other)
            del self._scores[other]

    def restore_last(self, like: TrainState) -> TrainState:
        """Return the last state, or `like` where none was written; remove states of other steps.

        Raises:
          ValueError: the state is damaged, and there is no earlier state.
        """
        steps = sorted(_steps_in(self._directory / LAST), reverse=True)
        for step in steps:
            folder = self._directory / LAST / str(step)
            wrong = damaged_files(folder, folder / CHECKSUMS)
            if not wrong:
                for other in set(steps) - {step}:
                    self._remove(LAST, other)
                return self._restore(folder, like)
            if step != steps[-1]:
                self._log(
                    f"{folder / wrong[0]} is damaged; step {step} is done again from the state "
                    "before it"
                )
        if steps:
            raise ValueError(f"{folder / wrong[0]} is damaged; {self._advice()}")
        return like

    def best_steps(self) -> list[int]:
        """Return the steps of kept parameters, highest rank first, then latest first."""
        return _ranked(self._scores)

    def best_scores(self) -> dict:
        """Return the scores of the best epoch, without its rank."""
        scores = self._scores[self.best_steps()[0]]
        return {name: value for name, value in scores.items() if name not in ("rank", REACHED)}

    def reached_step(self) -> int:
        """Return the first step that had the rank of the best epoch."""
        best = self.best_steps()[0]
        return self._scores[best].get(REACHED, best)

    def restore_best(self, like, step: int | None = None):
        """Return the parameters of the best epoch, or of one of `best_steps`."""
        step = self.best_steps()[0] if step is None else step
        return self._restore(self._directory / BEST / str(step), like)

    def close(self) -> None:
        """Release the directories."""
        self._orbax.close()

    def _reached_by(self, rank: float) -> list[int]:
        """Return the first steps of kept epochs of this rank."""
        kept = self._scores.items()
        return [scores.get(REACHED, step) for step, scores in kept if scores["rank"] == rank]

    def _advice(self) -> str:
        """Return what to do about an unusable checkpoint, and the cost."""
        again = f"remove {self._directory} and give the same command again"
        return f"{again}; it trains this phase from its start"

    def _read_best(self) -> dict[int, dict]:
        """Return the scores of the kept epochs by step; remove files without an epoch."""
        found, broken, wrong_of = {}, {}, {}
        for step in _steps_in(self._directory / BEST):
            folder = self._directory / BEST / str(step)
            wrong_of[step] = [
                str(folder / name) for name in damaged_files(folder, folder / CHECKSUMS)
            ]
            scores = _read_scores(folder)
            if scores is None:
                broken[step] = folder
            else:
                found[step] = scores
        kept = _ranked(found)[: self._num_checkpoints]
        for step, folder in broken.items():
            if not kept or (folder / METRICS / METRICS).exists():
                raise ValueError(f"{folder / METRICS / METRICS} is damaged; {self._advice()}")
            self._log(f"{folder} was being removed when the run was killed; it is removed now")
            self._remove(BEST, step)
        for step in set(found) - set(kept):
            self._remove(BEST, step)
        for step in kept:
            if wrong_of[step]:
                raise ValueError(f"{wrong_of[step][0]} is damaged; {self._advice()}")
        return {step: found[step] for step in kept}

    def _save(self, kind: str, step: int, tree, *, scores: dict | None = None) -> None:
        """Write a step so that it appears complete or not at all."""
        folder = self._directory / kind / str(step)
        folder.parent.mkdir(parents=True, exist_ok=True)
        require_space(self._directory, tree)
        partial = folder.with_name(folder.name + PARTIAL)
        partial.mkdir()
        self._orbax.save((partial / ITEM).resolve(), args=ocp.args.StandardSave(tree))
        if scores is not None:
            (partial / METRICS).mkdir()
            (partial / METRICS / METRICS).write_text(json.dumps(scores), encoding="utf-8")
        write_checksums(partial, partial / CHECKSUMS)
        partial.rename(folder)
        flush_names(folder.parent)

    def _remove(self, kind: str, step: int) -> None:
        """Rename a step, then remove it."""
        folder = self._directory / kind / str(step)
        removed = folder.with_name(folder.name + REMOVED)
        folder.rename(removed)
        shutil.rmtree(removed)

    def _restore(self, folder: pathlib.Path, like):
        """Return the tree of a step.

        Raises:
          ValueError: orbax cannot read it.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._orbax.restore(
                (folder / ITEM).resolve(), args=ocp.args.StandardRestore(abstract)
            )
        except (ValueError, OSError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{folder} cannot be read ({reason}); {self._advice()}") from error


def _steps_in(directory: pathlib.Path) -> list[int]:
    """Return the steps that a directory has, in increasing order."""
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdecimal())


def _ranked(scores: dict[int, dict]) -> list[int]:
    """Return steps by their rank, highest first, then latest first."""
    return sorted(scores, key=lambda step: (scores[step]["rank"], step), reverse=True)


def _remove_leftovers(directory: pathlib.Path) -> None:
    """Remove files that a killed run was writing or removing."""
    for path in directory.glob("*"):
        if path.is_dir() and not path.name.isdecimal():
            shutil.rmtree(path)


def _read_scores(folder: pathlib.Path) -> dict | None:
    """Return the scores of an epoch; None where their file is missing or damaged."""
    try:
        scores = json.loads((folder / METRICS / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(scores, dict) and isinstance(scores.get("rank"), int | float)
    return scores if is_whole and math.isfinite(scores["rank"]) else None
