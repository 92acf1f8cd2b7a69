"""A few test texts of a run, and the predictions of its fastest model on them."""

import pathlib
from collections.abc import Sequence

import numpy as np

from adapler_jax.data.classification.examples import take_examples
from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.splits import SpanSplit
from adapler_jax.inference.question_answerer import QuestionAnswerer
from adapler_jax.inference.text_reader import QAPrediction
from adapler_jax.training.finished import fastest_model, finished_phases, load_options, read_run
from adapler_jax.training.loaded_run import EVAL_SPLITS
from adapler_jax.training.task_data import load_questions
from adapler_jax.training.text_tasks import has_classes, is_qa_task, load_data
from adapler_jax.weights.labels import names_in_run
from adapler_jax.weights.save import class_names_of, load_model


def is_qa_run(workdir) -> bool:
    """Return whether the task of a run answers questions."""
    return is_qa_task(read_run(pathlib.Path(workdir).expanduser()))


def is_class_run(workdir) -> bool:
    """Return whether the task of a run has classes of texts."""
    return has_classes(read_run(pathlib.Path(workdir).expanduser()))


def example_answers(
    workdir, *, num_questions: int = 3
) -> tuple[str, list[tuple[Question, QAPrediction]]] | None:
    """Answer questions of the test split with the fastest model of a run.

    Returns:
      The name of the model, and the questions with their predictions; None if the answers are not
      spans of a text.
    """
    workdir = pathlib.Path(workdir).expanduser()
    phases = finished_phases(workdir)
    model = fastest_model(phases)
    directory = phases[model] / "model"
    if load_model(directory).head.name != "span":
        return None
    answerer = QuestionAnswerer.load(directory, **load_options(workdir, model))
    data = load_questions(read_run(workdir), directory, only=EVAL_SPLITS)
    split = data.splits[_reported_split(tuple(data.splits))]
    assert isinstance(split, SpanSplit)  # the head is `span`
    questions = split.questions
    chosen = [questions[index] for index in range(min(num_questions, len(questions)))]
    predictions = answerer.answer_all([(one.question, one.context) for one in chosen])
    return model, list(zip(chosen, predictions))


def _reported_split(names: Sequence[str]) -> str:
    """Return the first test split, else the first validation split."""
    return next(name for part in EVAL_SPLITS[::-1] for name in names if name.startswith(part))


def example_texts(workdir, *, num_texts: int = 3) -> tuple[list, list[str]]:
    """Return texts of a run's test split, the nearest to its median length, and their class names.

    Returns:
      Texts, or pairs of texts; and the name of the class of each.
    """
    workdir = pathlib.Path(workdir).expanduser()
    dataset = load_data(read_run(workdir))
    examples = dataset.split(dataset.eval_splits[0])
    length_E = np.array([len(text) for text in examples.texts])
    order_E = np.argsort(np.abs(length_E - np.median(length_E)), kind="stable")
    chosen = take_examples(examples, order_E[:num_texts])
    saved_names = class_names_of(workdir / "finetune" / "model")
    names = names_in_run(saved_names or (), dataset.task.class_names)
    return chosen.inputs, [names[label] for label in chosen.labels]
