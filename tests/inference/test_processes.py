"""A model after a fork says so, and one that is sent to another process is loaded there again."""

import copy
import dataclasses
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import warnings

import huggingface_hub
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import heads
from adapler_jax.inference import processes
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import make_engine
from adapler_jax.inference.multiple_choice import MultipleChoice
from adapler_jax.inference.processes import Origin, check_process
from adapler_jax.inference.question_answerer import QuestionAnswerer
from adapler_jax.io.atomic_directories import temporary_sibling
from adapler_jax.pruning import keep_all
from adapler_jax.types import COMPUTE_DTYPES, compute_dtype
from adapler_jax.weights.save import save_model
from tests import tiny
from tests.data.conftest import build_tokenizer

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
LIMIT_S = 20.0
LIMITS = {
    "doc_stride": 4,
    "max_question_tokens": 4,
    "max_answer_tokens": 4,
    "n_best_size": 3,
    "max_option_tokens": 6,
}


@pytest.fixture(scope="module", name="models")
def _models(tmp_path_factory, tiny_classifier):
    """One loaded model a class."""
    root, params = tmp_path_factory.mktemp("models"), tiny.make_params()
    save = {
        "config": tiny.CONFIG,
        "pruner_name": "adapler",
        "max_length": 16,
        "tokenizer": build_tokenizer(),
        "extra": {"qa": LIMITS | {"score_options_independently": False}},
    }
    span = params | {"head": heads.SPAN.init(tiny.jax.random.key(0), tiny.CONFIG, 0)}
    save_model(root / "span", span, head=heads.SPAN, **save)
    one = {"kernel": params["head"]["classifier"]["kernel"][:, :1], "bias": jnp.zeros(1)}
    save_model(
        root / "choice",
        params | {"head": params["head"] | {"classifier": one}},
        head=heads.choice(num_options=2),
        **save,
    )
    return {
        "classifier": Classifier.load(
            tiny_classifier, dtype="bfloat16", driver="bucketed", buckets=[8, 16]
        ),
        "reader": QuestionAnswerer.load(root / "span", driver="masked", always_answers=True),
        "chooser": MultipleChoice.load(root / "choice", driver="masked"),
    }


def calls_of(models):
    """Return the uses of models in a worker, by name."""
    classifier, reader, chooser = (models[name] for name in ("classifier", "reader", "chooser"))
    return {
        "predict": lambda: classifier.predict(["good"]),
        "predict_probs": lambda: classifier.predict_probs(["good"]),
        "explain": lambda: classifier.explain("good"),
        "warm_up": lambda: classifier.warm_up(1),
        "run": lambda: classifier.run(classifier.params, tiny.make_batch((3,))),
        "answer": lambda: reader.answer("good", "a good film"),
        "stream": lambda: list(reader.stream([("good", "a good film")])),
        "choose": lambda: chooser.choose("good", "a good film", ["a", "b"]),
        "Classifier.load": lambda: Classifier.load(classifier.origin.directory),
        "QuestionAnswerer.load": lambda: QuestionAnswerer.load(reader.origin.directory),
        "MultipleChoice.load": lambda: MultipleChoice.load(chooser.origin.directory),
        "pickle": lambda: pickle.loads(pickle.dumps(classifier)).predict(["good"]),
        "pickle, run": lambda: pickle.loads(pickle.dumps(classifier)).run,
        "pickle, explain": lambda: pickle.loads(pickle.dumps(classifier)).explain("good"),
        "make_engine": lambda: make_engine(tiny.CONFIG, keep_all()),
    }


def messages_after_a_fork(calls) -> dict:
    """Return the error of each call in one child of this process.

    A child that does not end is terminated.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and JAX warn of forks
        child = os.fork()
    if child == 0:
        for name, call in calls.items():
            try:
                call()
                sender.send((name, "it answered"))
            except RuntimeError as error:
                sender.send((name, str(error)))
        os._exit(0)
    found = {}
    try:
        while len(found) < len(calls) and receiver.poll(LIMIT_S):
            name, message = receiver.recv()
            found[name] = message
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return found


@pytest.mark.long
@FORKS
def test_after_a_fork_every_use_of_a_model_raises_a_sentence(models):
    calls = calls_of(models)
    calls["predict"]()
    found = messages_after_a_fork(calls)
    assert list(found) == list(calls)
    for message in found.values():
        assert message.startswith(
            "this process was forked after JAX had started, so no model can run in it; load"
        )
        assert "docs/serving.md" in message and "\n" not in message
    calls["predict"]()  # the parent continues


POOL = """
import multiprocessing, sys
from adapler_jax.inference.classifier import Classifier
classifier = Classifier.load(sys.argv[1], driver="masked")
import jax
jax.devices()
with multiprocessing.get_context("fork").Pool(2) as pool:
    for call in (classifier.predict, classifier.warm_up):
        try:
            pool.map(call, [["a"], ["b"]])
        except RuntimeError as error:
            print(error, flush=True)
"""


@pytest.mark.long
@FORKS
def test_a_pool_of_forked_workers_answers_with_the_sentence(tiny_classifier):
    command = [sys.executable, "-W", "ignore", "-c", POOL, str(tiny_classifier)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    lines = found.stdout.splitlines()
    assert len(lines) == 2, found.stderr
    assert all(line.startswith("this process was forked after JAX") for line in lines)


def test_a_model_that_cannot_be_loaded_where_it_arrives_says_so_at_its_first_use(tmp_path):
    again = processes.load_from_origin(Classifier, Origin(str(tmp_path / "gone"), {}))
    for use in (lambda: again.predict(["a"]), lambda: again.params, lambda: again.explain("a")):
        with pytest.raises(ValueError, match="gone"):
            use()
    assert again.origin.directory == str(tmp_path / "gone")
    assert pickle.dumps(again) == pickle.dumps(processes.load_from_origin(Classifier, again.origin))


def test_an_attribute_that_no_model_has_stays_an_attribute_error(models):
    with pytest.raises(AttributeError, match="'Classifier' object has no attribute 'labels'"):
        _ = models["classifier"].labels


FORKED_BEFORE = """
import os, sys
from adapler_jax.inference.classifier import Classifier
child = os.fork()
if child == 0:
    print(Classifier.load(sys.argv[1], driver="masked").predict(["good"])[0].label, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.long
@FORKS
def test_a_worker_that_is_forked_before_the_load_answers(tiny_classifier):
    command = [sys.executable, "-c", FORKED_BEFORE, str(tiny_classifier)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.stdout.strip() in ("a", "b", "c"), found.stderr


FORKED_AFTER = """
import ctypes, os, sys, threading, time, jax
jax.devices()
child = os.fork()
if child == 0:
    if sys.argv[1] == "thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    if sys.argv[1] == "native":
        sleep = ctypes.cast(ctypes.CDLL(None).sleep, ctypes.c_void_p)
        thread = ctypes.c_ulong()
        ctypes.CDLL(None).pthread_create(ctypes.byref(thread), None, sleep, ctypes.c_void_p(60))
    from adapler_jax.inference.processes import check_process
    try:
        check_process()
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
from adapler_jax.inference.processes import check_process
check_process()
print("the parent may run models")
"""


@FORKS
@pytest.mark.skipif(
    not os.path.exists(processes.TASKS), reason="this system does not list its threads"
)
@pytest.mark.parametrize("second", ["none", "thread", "native"])
def test_a_worker_that_imports_the_library_after_its_fork_says_so_too(second):
    found = subprocess.run(
        [sys.executable, "-c", FORKED_AFTER, second],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    message, parent = found.stdout.splitlines()
    assert message.startswith(
        "this process was forked after JAX had started"
    ) and parent.startswith("the parent may")


def test_a_process_is_forked_where_jax_ran_before(monkeypatch):
    for jax_ran in (False, True):
        state = processes._Process()
        monkeypatch.setattr(processes, "_process", state)
        monkeypatch.setattr(processes, "jax_runs", lambda jax_ran=jax_ran: jax_ran)
        processes._before_fork()
        processes._after_fork()
        assert state.is_forked == jax_ran
    with pytest.raises(RuntimeError, match="forked after JAX had started"):
        check_process()


def test_without_jaxs_own_answer_a_loaded_model_counts(monkeypatch):
    monkeypatch.setattr(processes, "_process", processes._Process())
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", None)
    assert not processes.jax_runs()
    check_process()
    assert processes.jax_runs()


@pytest.mark.parametrize("name", ["classifier", "reader", "chooser"])
def test_a_model_is_pickled_by_its_folder_and_arguments(models, name):
    model = models[name]
    content = pickle.dumps(model)
    again = pickle.loads(content)
    assert len(content) < 2000 and again.origin == model.origin and type(again) is type(model)
    assert again.lengths == model.lengths and again.run is not model.run
    if name == "reader":
        assert again.threshold is None


@pytest.mark.long
def test_a_pickled_classifier_answers_as_the_first(models):
    model = models["classifier"]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        again.predict_probs(["good", "bad film"]), model.predict_probs(["good", "bad film"])
    )
    assert model.origin.options == {"dtype": "bfloat16", "driver": "bucketed", "buckets": (8, 16)}


@pytest.mark.parametrize(
    "dtype", [jnp.bfloat16, "bfloat16", jnp.dtype("bfloat16"), np.dtype(jnp.bfloat16)]
)
def test_arguments_of_a_load_pickle_whatever_their_form(tmp_path, monkeypatch, dtype):
    monkeypatch.chdir(tmp_path)
    origin = processes.origin_of(
        "model", {"dtype": dtype, "autotune_table": "table.json", "buckets": [8, 16]}
    )
    assert (
        pickle.loads(pickle.dumps(origin))
        == origin
        == Origin(
            str(tmp_path / "model"),
            {
                "dtype": "bfloat16",
                "autotune_table": str(tmp_path / "table.json"),
                "buckets": (8, 16),
            },
        )
    )


def test_a_model_that_no_load_made_says_how_to_send_one(models):
    changed = dataclasses.replace(models["classifier"], class_names=("x", "y", "z"))
    with pytest.raises(
        TypeError, match=r"was not made by Classifier.load, .* load it there with Classifier.load"
    ):
        pickle.dumps(changed)
    with pytest.raises(TypeError, match="make it in every worker with make_engine"):
        pickle.dumps(models["classifier"].run)


def test_copies_of_a_model_are_the_model(models):
    for model in (*models.values(), models["classifier"].run):
        assert copy.copy(model) is model and copy.deepcopy({"model": model})["model"] is model


@pytest.mark.parametrize("name", COMPUTE_DTYPES)
def test_dtypes_are_taken_by_name_and_as_objects(name):
    for dtype in (name, jnp.dtype(name), COMPUTE_DTYPES[name]):
        assert compute_dtype(dtype) is COMPUTE_DTYPES[name]


@pytest.mark.parametrize("dtype", ["float16", "half", "bf16", 3, None, [], jnp.int32, "float64"])
def test_other_dtypes_are_rejected_by_name(dtype):
    with pytest.raises(ValueError, match=r"^dtype is .*; expected float32 or bfloat16$"):
        make_engine(tiny.CONFIG, keep_all(), dtype=dtype)


def test_a_name_on_the_hub_is_loaded_from_its_download(tiny_classifier, monkeypatch):
    asked = []

    def download(name, allow_patterns):
        asked.append(name)
        return str(tiny_classifier)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = Classifier.load("somebody/model")
    assert asked == ["somebody/model"] and model.origin.directory == str(tiny_classifier)


def test_the_origin_of_an_interrupted_save_is_the_directory_itself(tiny_classifier, tmp_path):
    shutil.copytree(tiny_classifier, temporary_sibling(tmp_path / "model", "previous"))
    assert Classifier.load(tmp_path / "model").origin.directory == str(tmp_path / "model")
