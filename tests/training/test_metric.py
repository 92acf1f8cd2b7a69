"""The config's metric selects and reports models."""

import pytest

from adapler_jax.training.task_data import load_questions, load_task_data
from configs import finetune


def load(config, tiny_files):
    return load_task_data(config, tiny_files / "model", only=("validation",))


def test_the_metric_is_the_task_s_unless_the_config_names_another(make_config, tiny_files):
    assert load(make_config(), tiny_files).metric == "accuracy"
    task = load(make_config(data__metric="macro_f1"), tiny_files)
    assert task.metric == "macro_f1"
    assert task.make_scorer("validation", 0.4)._threshold == 0.4
    config = make_config()
    with config.data.unlocked():
        del config.data["metric"]  # runs of release 0.1 have no such field
    assert load(config, tiny_files).metric == "accuracy"


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("rouge", "config.data.metric: unknown metric 'rouge'; there are accuracy, f1, macro_f1"),
        ("pearson", "config.data.metric: metric 'pearson' takes classes that are numbers.*'bad'"),
    ],
)
def test_a_metric_that_does_not_fit_is_named_with_its_field(
    make_config, tiny_files, metric, message
):
    with pytest.raises(ValueError, match=message):
        load(make_config(data__metric=metric), tiny_files)


def test_questions_have_the_metric_of_their_kind(tmp_path):
    config = finetune.get_config("custom_span")
    config.data.metric = "accuracy"
    with pytest.raises(
        ValueError, match="config.data.metric is 'accuracy', but task 'custom_span' has questions"
    ):
        load_questions(config, tmp_path)
