"""Grow a benchmark's record over several calls: a call measures a part of the trainings."""

import json
import pathlib
import statistics

from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import results_record, write_json
from adapler_jax.training.phases import is_complete, read_done


def training_commits(workdir: pathlib.Path, phase: str) -> list[str | None]:
    """Return the commits that trained a phase's model, once each, in the order of phases."""
    names = ("finetune", "saliency", "adapler", phase) if phase != "finetune" else (phase,)
    return list(
        dict.fromkeys(
            read_done(workdir / name).get("commit") for name in names if is_complete(workdir / name)
        )
    )


def means_over_seeds(
    rows: list[dict], *, by: tuple[str, ...], names: tuple[str, ...]
) -> list[dict]:
    """Return a row for each value of the `by` columns: means and sample standard deviations.

    Deviations are named `NAME_sd`. Rows without a column do not count for it; of one row it is
    None.
    """
    summary = []
    for values in dict.fromkeys(tuple(row[name] for name in by) for row in rows):
        group = [row for row in rows if tuple(row[name] for name in by) == values]
        line = dict(zip(by, values)) | {"num_seeds": len(group)}
        for name in names:
            found = [row[name] for row in group if row.get(name) is not None]
            if found:
                line[name] = statistics.mean(found)
                line[name + "_sd"] = statistics.stdev(found) if len(found) > 1 else None
        summary.append(line)
    return summary


class Record:
    """The rows at a path, all measured with the same config fields.

    Every row has the commit, device and date of its measurement.
    """

    def __init__(self, path, fields: dict, *, module: str):
        """Open a record.

        Args:
          path: of the JSON, which may not exist.
          fields: {name: value} that all rows share.
          module: that `python -m` runs.

        Raises:
          ValueError: the existing rows were measured with other fields.
        """
        self._path = pathlib.Path(path)
        self._fields = json.loads(json.dumps(fields))  # equal to fields from a file
        self._command = module_command(module)
        self.rows = []
        if self._path.exists():
            record = json.loads(self._path.read_text())
            there = record["config"]
            given = self._fields
            names = sorted(
                name for name in given.keys() | there.keys() if given.get(name) != there.get(name)
            )
            if names:
                raise ValueError(
                    f"{path} has runs with other values of {', '.join(names)}; give another --json"
                )
            self.rows = record["rows"]

    def add(self, found: list[dict], **summary) -> None:
        """Append rows and write the file; `summary` entries replace the earlier entries."""
        stamped = results_record(found, command=self._command)
        self.rows += [
            row | {name: stamped[name] for name in ("commit", "device", "date")} for row in found
        ]
        entries = {name: summarize(self.rows) for name, summarize in summary.items()}
        write_json(self._path, stamped | {"rows": self.rows, "config": self._fields, **entries})
