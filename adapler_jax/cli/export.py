"""Write a saved model for other programs, or compile it ahead of time.

    adapler export --model=DIR --format=onnx [--quantize=int8] [--data=FILE]
    adapler export --model=DIR --format=openvino [--data=FILE [--dtype=float32,bfloat16]]
    adapler export --model=DIR

The model is a saved one, or a folder that transformers wrote of a fine-tuned classifier, reranker
or tagger, which runs all tokens.

The first writes an ONNX file that drops tokens into the model's folder onnx/, for ONNX Runtime and
other engines, and the second a model of OpenVINO into the folder openvino/. --data=FILE compares it
with the model on your texts, and writes the result into the model's card; --label=COLUMN adds the
accuracy. The data are text lines (.txt), a table (.csv, .tsv, .parquet) or JSON lines (.jsonl).

The third writes the programs of a classification model into its folder, for CPUs, CUDA and TPUs.
Serving processes then load the programs in place of tracing the model:
Classifier.load(DIR, programs=True).
"""

import pathlib

from absl import flags

import adapler_jax
from adapler_jax.cli.console import run_command
from adapler_jax.evaluation.task_texts import READERS, checked_labels
from adapler_jax.export.jax_export import export_model
from adapler_jax.export.onnx.settings import ONNX, OPENVINO, WEIGHTS_SUFFIX
from adapler_jax.heads import TOKEN_CLASSIFICATION
from adapler_jax.inference.autotune.workloads import check_names
from adapler_jax.inference.engine import AUTO, STAGED_DRIVERS
from adapler_jax.io.terminal import one_line, print_note
from adapler_jax.serving.texts import read_texts
from adapler_jax.types import COMPUTE_DTYPES
from adapler_jax.weights.folders import describe_folder
from adapler_jax.weights.saved_tokenizer import has_tokenizer

JAX = "jax"
FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string(
    "model", None, "directory of the model", required=True, flag_values=FLAGS
)
_FORMAT = flags.DEFINE_enum(
    "format",
    JAX,
    [JAX, ONNX, OPENVINO],
    "programs of this library, or a file for another engine",
    flag_values=FLAGS,
)
_QUANTIZE = flags.DEFINE_string(
    "quantize",
    "",
    "onnx: products of integers, int8 for this processor, or avx512_vnni, avx512, avx2, arm64",
    flag_values=FLAGS,
)
_OPERATORS = flags.DEFINE_string(
    "operators",
    "onnxruntime",
    "onnx: standard ones run in every engine; onnxruntime has faster ones of its own",
    flag_values=FLAGS,
)
_DATA = flags.DEFINE_string(
    "data",
    "",
    "onnx, openvino: file of texts to compare the exported file with the model on",
    flag_values=FLAGS,
)
_COLUMN = flags.DEFINE_list(
    "column", [], "text column of --data, two with a comma for pairs", flag_values=FLAGS
)
_LABEL = flags.DEFINE_string(
    "label", "", "column of labels of --data, for the accuracy", flag_values=FLAGS
)
_DTYPE = flags.DEFINE_list(
    "dtype",
    ["float32"],
    "float32 or bfloat16. jax: operands of the encoder's products; openvino: operands in the "
    "comparison on --data, one or both",
    flag_values=FLAGS,
)
_DRIVER = flags.DEFINE_enum(
    "driver",
    AUTO,
    [AUTO, *STAGED_DRIVERS],
    "how tokens are dropped; auto: programs of every fast driver",
    flag_values=FLAGS,
)
_BUCKETS = flags.DEFINE_list(
    "buckets",
    [],
    "numbers of tokens that layers are padded to, as 32,64,128; default: by the model's length",
    flag_values=FLAGS,
)


UNMEASURED = {"embedding": "vectors", TOKEN_CLASSIFICATION.name: "tags of tokens"}  # by the head
FORMATS = (  # the flags, each with its formats
    *((holder, (JAX,)) for holder in (_DRIVER, _BUCKETS)),
    *((holder, (ONNX,)) for holder in (_QUANTIZE, _OPERATORS)),
    *((holder, (ONNX, OPENVINO)) for holder in (_DATA, _COLUMN, _LABEL)),
    (_DTYPE, (JAX, OPENVINO)),
)


def parse_buckets(words: list[str]) -> tuple[int, ...] | None:
    """Return buckets as numbers; None without buckets.

    Raises:
      ValueError: a word is no whole number.
    """
    if not all(word.strip().isdecimal() for word in words):
        raise ValueError(f"--buckets is {','.join(words)}; expected whole numbers, as 32,64,128")
    return tuple(map(int, words)) or None


def main() -> None:
    """Write the files and print their paths, and what --data says of them."""
    check_flags()
    data = None
    if _DATA.value:
        check_is_measured(_MODEL.value)
        data = read_texts(
            _MODEL.value,
            _DATA.value,
            columns=_COLUMN.value,
            label_column=_LABEL.value,
            log=print_note,
        )
        if describe_folder(_MODEL.value).head.name not in READERS:
            checked_labels(_MODEL.value, data.texts, data.labels)
    paths = _export()
    if not has_tokenizer(pathlib.Path(_MODEL.value).expanduser()):
        print_note(
            f"{_MODEL.value} has no tokenizer (tokenizer.json or vocab.txt), and "
            "programs that read texts need it there; add it"
        )
    for path in paths:
        files = {path, path.with_suffix(WEIGHTS_SUFFIX)} if _FORMAT.value == OPENVINO else {path}
        num_bytes = sum(file.stat().st_size for file in files)
        print(one_line(f"{path}: {num_bytes / 1e6:.1f} MB"))
        if data is None:
            continue
        for dtype in _DTYPE.value:
            found = adapler_jax.measure_export(
                path, data.texts, labels=data.labels, dtype=dtype, log=print_note
            )
            words = f"{dtype}: " if len(_DTYPE.value) > 1 else ""
            print(f"{words}{found.sentence()}")


def check_is_measured(model: str) -> None:
    """Raise ValueError for models whose results --data does not compare."""
    if results := UNMEASURED.get(describe_folder(model).head.name):
        raise ValueError(
            f"{model} returns {results}, which --data does not measure; leave out --data"
        )


def check_flags() -> None:
    """Raise ValueError for a flag of another format, or of a file that is not given."""
    about_data = (_COLUMN, _LABEL, _DTYPE)
    check_names(_DTYPE.value, COMPUTE_DTYPES, "dtype")
    for holder, formats in FORMATS:
        if holder.value == holder.default:
            continue
        if _FORMAT.value not in formats:
            expected = " or ".join(formats)
            raise ValueError(f"--{holder.name} is for --format={expected}; add it, or leave it out")
        if _FORMAT.value != JAX and not _DATA.value and any(holder is one for one in about_data):
            raise ValueError(f"--{holder.name} is about --data; give the file")
    if _FORMAT.value == JAX and len(_DTYPE.value) != 1:
        raise ValueError(f"--dtype is {','.join(_DTYPE.value)}; programs have one of them")


def _export() -> list[pathlib.Path]:
    """Write the files of the format, and return their paths."""
    if _FORMAT.value == ONNX:
        path = adapler_jax.export_onnx(
            _MODEL.value, quantize=_QUANTIZE.value, operators=_OPERATORS.value
        )
        return [path]
    if _FORMAT.value == OPENVINO:
        return [adapler_jax.export_openvino(_MODEL.value)]
    return export_model(
        _MODEL.value,
        buckets=parse_buckets(_BUCKETS.value),
        dtype=_DTYPE.value[0],
        driver=_DRIVER.value,
    )


def run(*, resumes: bool) -> None:
    """Parse the command line and export."""
    run_command(main, resumes=resumes, values=FLAGS, usage=__doc__)
