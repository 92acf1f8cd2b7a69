"""A benchmark's record that grows over several calls: long trainings are measured a part at a time."""

import json
import pathlib
import statistics

from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import results_record, write_json
from adapler_jax.training.phases import is_complete, read_done


def training_commits(workdir: pathlib.Path, phase: str) -> list[str | None]:
    """The commits that trained the model of a phase, each once, in the order of the phases that it rests on."""
    names = ("finetune", "saliency", "adapler", phase) if phase != "finetune" else (phase,)
    return list(
        dict.fromkeys(
            read_done(workdir / name).get("commit") for name in names if is_complete(workdir / name)
        )
    )


def means_over_seeds(
    rows: list[dict], *, by: tuple[str, ...], names: tuple[str, ...]
) -> list[dict]:
    """A row a value of the `by` columns: means and sample standard deviations (`NAME_sd`) of the named columns over the
    rows that have them; of one row the deviation is None."""
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
    """The rows at a path, all measured with the same config fields; every row names the commit, device and date of its
    measuring."""

    def __init__(self, path, fields: dict, *, module: str):
        """Args: path: of the JSON, there or not. fields: {name: value} that all rows share. module: run by `python -m`.

        Raises ValueError where the rows there were measured with other fields.
        """
        self._path, self._fields = (
            pathlib.Path(path),
            json.loads(json.dumps(fields)),
        )  # as they are read back
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
                    f"{path} holds runs with other values of {', '.join(names)}; give another --json"
                )
            self.rows = record["rows"]

    def add(self, found: list[dict], **summary) -> None:
        """Appends rows and writes the file; `summary` entries stand beside the rows and replace those of before."""
        stamped = results_record(found, command=self._command)
        self.rows += [
            row | {name: stamped[name] for name in ("commit", "device", "date")} for row in found
        ]
        entries = {name: summarize(self.rows) for name, summarize in summary.items()}
        write_json(self._path, stamped | {"rows": self.rows, "config": self._fields, **entries})
