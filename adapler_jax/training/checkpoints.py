"""Checkpoints of a phase: the last whole state to go on from, and the weights of the best epochs."""

import pathlib
import shutil

import jax
import orbax.checkpoint as ocp

from adapler_jax.training.steps import TrainState

LAST, BEST = "last", "best"
MARGIN_BYTES = 2**21  # for metadata, and what else the run writes


def require_space(directory: pathlib.Path, tree) -> None:
    """Raises OSError where the disk has no room for the arrays of a tree: before orbax fails halfway and at length."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + MARGIN_BYTES
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(
            f"{directory}: a checkpoint needs {needed / 2**20:.1f} MiB and the disk has {free / 2**20:.1f} left; make "
            "room and give the same command again: it goes on from the last checkpoint"
        )


class Checkpoints:
    """`last/` holds one full state, `best/` the parameters of the epochs with the highest rank.

    A step is written beside the others and renamed when complete: a kill or a full disk leaves the previous one intact.
    """

    def __init__(self, directory: pathlib.Path, *, num_best: int):
        def manager(name, **options):
            return ocp.CheckpointManager(
                (directory / name).resolve(),
                options=ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **options),
            )

        self._directory = directory
        self._last = manager(LAST, max_to_keep=1)
        self._best = manager(BEST, max_to_keep=num_best, best_fn=lambda metrics: metrics["rank"], best_mode="max")

    def save_last(self, state: TrainState) -> None:
        """Writes the state, unless this step is there already."""
        step = int(state.step)
        if step != self._last.latest_step():
            require_space(self._directory, state)
            self._last.save(step, args=ocp.args.StandardSave(state))

    def save_best(self, state: TrainState, scores: dict) -> None:
        """Writes the parameters of an epoch, if scores["rank"] is among the highest so far; never with a negative rank.

        The scores, floats or lists of floats, are kept beside them.
        """
        step = int(state.step)
        if scores["rank"] >= 0 and step not in self._best.all_steps():
            require_space(self._directory, state.params)
            self._best.save(step, args=ocp.args.StandardSave(state.params), metrics=scores)

    def restore_last(self, like: TrainState) -> TrainState:
        """The last state, or `like` where none was written."""
        step = self._last.latest_step()
        if step is None:
            return like
        return self._last.restore(
            step, args=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
        )

    def best_steps(self) -> list[int]:
        """Steps with kept parameters, highest rank first."""
        steps = self._best.all_steps()
        return sorted(steps, key=lambda step: self._best.metrics(step)["rank"], reverse=True)

    def best_scores(self) -> dict:
        """What the best epoch was saved with, its rank left out."""
        scores = self._best.metrics(self.best_steps()[0])
        return {name: value for name, value in scores.items() if name != "rank"}

    def restore_best(self, like, step: int | None = None):
        """Parameters of the best epoch, or of one of `best_steps`."""
        step = self.best_steps()[0] if step is None else step
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._best.restore(step, args=ocp.args.StandardRestore(abstract))

    def close(self) -> None:
        """Waits for writes and releases the directories."""
        self._last.close()
        self._best.close()
