"""Write the report of a run: one HTML page without other files."""

import base64
import hashlib
import pathlib
from collections.abc import Callable

import jinja2
from markupsafe import Markup

from adapler_jax.data.classification.examples import Dataset
from adapler_jax.data.tokenization.tokenizers import load_tokenizer
from adapler_jax.data.tokenization.tokens import tokenize
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.report import sections
from adapler_jax.report.contents import RunRecord, read_contents
from adapler_jax.report.explorer import Explorer, explore
from adapler_jax.report.sections import Note, Section
from adapler_jax.training.finished import load_fastest, load_named
from adapler_jax.training.methods import METHODS
from adapler_jax.training.text_tasks import has_classes, load_data, token_cache

_LOADER = jinja2.PackageLoader("adapler_jax.report")
_TEMPLATES = jinja2.Environment(
    loader=_LOADER,
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_report(
    workdir,
    path=None,
    *,
    num_examples: int,
    model: str | None = None,
    methods=None,
    log: Callable[[str], None],
) -> pathlib.Path:
    """Write the page, whole or not at all, and return its path: W/report.html by default.

    Args:
      workdir: of the run.
      path: of the page.
      num_examples: texts of the test split in the explorer; 0 for a page without texts.
      model: name of the explorer's model; the fastest by default.
      methods: path of a record of benchmarks.methods.
      log: receives a sentence for everything that is missing.

    Raises:
      ValueError: the folder has no run, a record is damaged, the model does not exist, or the path
        is a folder.
    """
    workdir = pathlib.Path(workdir).expanduser()
    path = pathlib.Path(path).expanduser() if path else workdir / "report.html"
    run = read_contents(workdir, pathlib.Path(methods).expanduser() if methods else None)
    if model and model not in run.models:
        raise ValueError(
            f"{workdir} has no finished model {model!r}; "
            f"there are {', '.join(run.models) or 'none'}"
        )
    if path.is_dir():
        raise ValueError(
            f"--output={path} is a folder; give a file, as --output={path / 'report.html'}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset, problem = read_texts(run)
    parts, explorer = collect(
        run, dataset, problem, num_examples=num_examples, model=model, log=log
    )
    replace_text(path, render(run, parts, explorer))
    return path


def read_texts(run: RunRecord) -> tuple[Dataset | None, str]:
    """Return the run's data, or None and the reason."""
    if not has_classes(run.config):
        return None, ""  # the page shows texts that are classified
    try:
        return load_data(run.config), ""
    except (ValueError, OSError) as error:
        return None, f"The run's data cannot be read: {' '.join(str(error).split())}"


def collect(
    run: RunRecord,
    dataset: Dataset | None,
    problem: str,
    *,
    num_examples: int,
    model: str | None,
    log: Callable,
) -> tuple[list[Section], Explorer | Note | None]:
    """Return all non-empty sections in order, and the explorer or why it is missing."""
    found = [
        sections.scores(run),
        sections.classes(run),
        sections.numbers(run),
        sections.tradeoff(run),
        sections.speed(run),
        sections.layers(run),
        length_section(run, dataset),
        sections.rationales(run),
        sections.phases(run),
        sections.training_curves(run),
    ]
    parts = [part for part in found if not part.is_empty]
    explorer = explorer_of(run, dataset, problem, num_examples=num_examples, model=model, log=log)
    notes = [note for part in parts for note in part.notes]
    if isinstance(explorer, Note):
        notes.append(explorer)
    for note in dict.fromkeys(notes):
        log(f"{note.text} {note.command}".strip())
    return parts, explorer


def length_section(run: RunRecord, dataset: Dataset | None) -> Section:
    """Return the histogram of the first test split's lengths, in the run's tokens."""
    max_length = run.config.data.max_length or (dataset.task.max_length if dataset else 0)
    if dataset is None or not run.models:
        return sections.lengths(None, "", max_length)
    tokenizer = load_tokenizer(str(run.workdir / "finetune" / "model"))
    split = dataset.eval_splits[0]
    tokenized = tokenize(
        dataset.split(split), tokenizer, max_length=max_length, cache_dir=token_cache(run.config)
    )
    return sections.lengths(tokenized.lengths, split, max_length)


def explorer_of(
    run: RunRecord,
    dataset: Dataset | None,
    problem: str,
    *,
    num_examples: int,
    model: str | None,
    log: Callable,
) -> Explorer | Note | None:
    """Return the explorer, the reason why it is missing, or None if it is not requested."""
    if problem:
        return Note(problem)
    # A method that drops no tokens has no words to follow.
    drops = model or METHODS[run.config.method].drops_tokens
    if not (num_examples and drops and run.models) or dataset is None:
        return None
    name, classifier = (
        (model, load_named(run.workdir, model)) if model else load_fastest(run.workdir)
    )
    try:
        return explore(name, classifier, dataset, num_examples, log=log)
    except ValueError as error:
        return Note(str(error))


def render(run: RunRecord, parts: list[Section], explorer: Explorer | Note | None) -> str:
    """Return the page as text."""
    script = "\n".join(source("explorer.js").splitlines())
    return _TEMPLATES.get_template("report.html.j2").render(
        title=f"{run.config.task}: {run.workdir.resolve().name or run.workdir}",
        parts=parts,
        explorer=explorer if isinstance(explorer, Explorer) else None,
        note=explorer if isinstance(explorer, Note) else None,
        style=Markup(source("report.css")),
        script=Markup(script),
        # The page's policy lets this script run and no other, whatever a text may hold.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def source(name: str) -> str:
    """Return a file of the templates, unchanged."""
    return _LOADER.get_source(_TEMPLATES, name)[0]
