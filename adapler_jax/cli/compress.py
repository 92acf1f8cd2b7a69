"""Make a model of classes, numbers or vectors faster, with text of its task and no labels.

    adapler compress --model=MODEL --data=FILE --out=DIR --speedup=3

MODEL is a classifier, a reranker or another model of numbers in Hugging Face form, a folder of
sentence-transformers, or a saved model of this library. The data are text lines (.txt), a table
(.csv, .tsv, .parquet) or JSON lines (.jsonl). Two methods drop tokens without training, then
AdapLeR is trained to answer as the model does; --notrain leaves that out. Of those that reach the
speedup, DIR/model is the one that agrees most with MODEL. It takes any budget, as after `adapler
calibrate`. A second call continues an interrupted one.

A reranker, whose classifier has one output, is made faster with pairs of a query and a document:
--column=query,document. Give the documents that it ranks for a query, as the first hundred of a
search, in a row each. It is judged by the order of the documents of each query. Its
--max_disagreement=0.05 certifies the fastest budget at which, for at least 95% of queries, the
first 10 documents share at least 9 with MODEL's.

A model of numbers of single texts, or of several numbers, is judged by the order of all texts, and
a model of several labels a text by the texts whose labels are all equal. They take no budgets.

A model of vectors is made faster with single texts. It is judged by the order of the similarities
of random pairs of texts. A plain encoder needs --pooling=mean or cls.

--max_disagreement=0.02 certifies the fastest budget at which at most 2% of answers differ from
MODEL's, with 95% confidence, for texts like the data that MODEL was not trained on. With labelled
data, --label=COLUMN --max_drop=1.0 certifies that the accuracy drops by no more than 1 point.

--latency_ms=20 --batch_size=1 takes the place of --speedup. The model is made as fast as calls of
at most 20 ms need on this device, which should run nothing else.
"""

import pathlib

from absl import flags

from adapler_jax.cli.calibrate import print_budgets
from adapler_jax.cli.console import run_command
from adapler_jax.cli.promise import define_latency, define_promise
from adapler_jax.heads.embedding import POOLINGS
from adapler_jax.io.terminal import print_note
from adapler_jax.serving.prediction_inputs import input_kind
from adapler_jax.serving.texts import read_texts
from adapler_jax.training.compress import compress
from adapler_jax.training.compress_steps import CompressOptions

FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "directory or hub name of a model of classes, labels, numbers or vectors",
    required=True,
    flag_values=FLAGS,
)
_DATA = flags.DEFINE_string("data", None, "file of texts", required=True, flag_values=FLAGS)
_OUT = flags.DEFINE_string(
    "out", None, "directory of the work and of the result", required=True, flag_values=FLAGS
)
_COLUMN = flags.DEFINE_list(
    "column", [], "text column of a table, two with a comma for pairs", flag_values=FLAGS
)
_SPEEDUP = flags.DEFINE_float(
    "speedup", 2.0, "FLOPs speedup on true tokens", lower_bound=1.0, flag_values=FLAGS
)
_MORE = flags.DEFINE_string(
    "unlabelled", None, "file of more texts to train on, as of a similar task", flag_values=FLAGS
)
_TRAIN = flags.DEFINE_bool(
    "train", True, "train AdapLeR too, not only the methods without training", flag_values=FLAGS
)
_NUM_LAYERS = flags.DEFINE_integer(
    "num_layers",
    0,
    "layers of the trained model; a student of fewer layers is distilled first; 0: all layers",
    lower_bound=0,
    flag_values=FLAGS,
)
_LABEL = flags.DEFINE_string(
    "label",
    "",
    "column of labels of a table, for scores and --max_drop; no training sees it",
    flag_values=FLAGS,
)
_PROTECTS = flags.DEFINE_bool(
    "protects_query",
    False,
    "of a reranker: drop no token of the query, only tokens of the document",
    flag_values=FLAGS,
)
_POOLING = flags.DEFINE_enum(
    "pooling",
    None,
    POOLINGS,
    "take a plain encoder for a model of vectors: the mean of its tokens, or the state of [CLS]",
    flag_values=FLAGS,
)
_PROMISE = define_promise(FLAGS)
_LATENCY = define_latency(FLAGS)
_LENGTH = flags.DEFINE_integer(
    "max_length",
    0,
    "tokens of a text; longer texts are cut; 0: the longest text",
    flag_values=FLAGS,
)


def main() -> None:
    """Compress, and print a line for each budget."""
    data = read_texts(
        None, _DATA.value, columns=_COLUMN.value, label_column=_LABEL.value, log=print_note
    )
    more = [] if _MORE.value is None else read_more(_MORE.value)
    options = CompressOptions(
        speedup=_SPEEDUP.value,
        train=_TRAIN.value,
        num_layers=_NUM_LAYERS.value,
        latency=_LATENCY(),
        promise=_PROMISE(),
        labels=data.labels,
        more_texts=more,
        protects_query=_PROTECTS.value,
        pooling=_POOLING.value,
        max_length=_LENGTH.value,
    )
    found = compress(_MODEL.value, data.texts, _OUT.value, options=options, log=print_note)
    if found is not None:
        print_budgets(found)
    print_note(f"model: {pathlib.Path(_OUT.value) / 'model'}")


def read_more(source: str) -> list:
    """Return the texts of --unlabelled; a table has the columns of --column too."""
    columns = [] if input_kind(source, None, has_format=False) == "txt" else _COLUMN.value
    return read_texts(None, source, columns=columns, log=print_note).texts


def run(*, resumes: bool) -> None:
    """Parse the command line and compress."""
    run_command(main, resumes=resumes, values=FLAGS, usage=__doc__)
