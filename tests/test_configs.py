"""Every config builds, is locked, and has the fields of base, method and task."""

import ast
import itertools
import pathlib
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from adapler_jax.data.classification.tasks import TASKS
from adapler_jax.data.qa.splits import QAKind
from adapler_jax.data.qa.tasks import QA_TASKS
from adapler_jax.presets import common, old_names, qa, sections
from adapler_jax.training.methods import ltp as ltp_method
from adapler_jax.training.run import check_config, phase_list
from adapler_jax.training.workdir import flatten
from configs import (
    adapler,
    attention,
    distill,
    finetune,
    ltp,
    powerbert,
    quickstart,
    trbert,
    vocabulary,
)

FOLDER = pathlib.Path(adapler.__file__).parent
ROOT = FOLDER.parent
# ml_collections loads config files by a method that Python deprecates.
loads_a_file = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
VARIANTS = {
    "adapler": ("paper", "finetuned", "debug", "student"),
    "finetune": ("debug",),
    "powerbert": ("paper", "finetuned", "debug"),
    "trbert": ("paper", "finetuned", "debug"),
    "distill": ("finetuned", "debug"),
    "ltp": ("finetuned", "debug"),
    "attention": ("finetuned", "debug"),
    "vocabulary": ("finetuned", "debug"),
}
SECTIONS = {
    "adapler": {
        "adapler": sections.adapler_section(),
        "saliency": sections.saliency_section(),
        "adapt": sections.adapt_section(),
    },
    "powerbert": {"powerbert": sections.powerbert_section()},
    "trbert": {"trbert": sections.trbert_section()},
    "distill": {"distill": sections.distill_section()},
    "ltp": {"ltp": ltp_method.SECTION.fields},
    "attention": {"attention": sections.training_free_section()},
    "vocabulary": {"vocabulary": sections.training_free_section()},
}
LONG = ("triviaqa", "hotpotqa", "wikihop")  # of which TR-BERT's released program reads 1,024 tokens
SECTIONS["quickstart"] = SECTIONS["adapler"]
MODULES = {
    "adapler": adapler,
    "distill": distill,
    "finetune": finetune,
    "ltp": ltp,
    "powerbert": powerbert,
    "quickstart": quickstart,
    "trbert": trbert,
    "attention": attention,
    "vocabulary": vocabulary,
}


def arguments(name):
    """Return each task once, then each variant and each pair of variants once, for two tasks."""
    if name == "quickstart":
        return ["", "debug"]
    variants = VARIANTS[name]
    chosen = [*((variant,) for variant in variants), *itertools.combinations(variants, 2)]
    chosen = [names for names in chosen if set(names) != {"paper", "student"}]
    varied = [",".join((task, *names)) for task in ("sst2", "squad2") for names in chosen]
    return [*adapler.TASKS, *varied]


@pytest.fixture(name="parse_flags")
def _parse_flags(monkeypatch):
    """Gives the config as `train.py` gets it from its command line."""

    def parse(*arguments):
        values = flags.FlagValues()
        config = config_flags.DEFINE_config_file(
            "config", None, lock_config=True, flag_values=values
        )
        monkeypatch.setattr(
            sys, "argv", ["train.py", *arguments]
        )  # where ml_collections looks for overrides
        values(sys.argv)
        return config.value

    return parse


def kinds(config):
    """Type of every field; tables that a user fills are fields."""
    return {
        name: type(value)
        for name, value in flatten(config.to_dict()).items()
        if not name.startswith("data.split_fractions")
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_config_builds_with_the_fields_of_the_base_and_of_its_method(name):
    for argument in arguments(name):
        has_student = "student" in argument or name == "quickstart"
        student = {"distill": sections.distill_section()} if has_student else {}
        check_fields(name, MODULES[name].get_config(argument), SECTIONS.get(name, {}) | student)


def check_fields(name, config, sections_of_method):
    expected = common.base_config()
    for section, fields in sections_of_method.items():
        expected[section] = fields
    if config.task in QA_TASKS:
        expected.qa = qa.qa_section()
    assert kinds(config) == kinds(expected)
    assert config.method == {"quickstart": "adapler"}.get(name, name)
    check_config(config)
    assert config.task in {**TASKS, **QA_TASKS}
    assert ("finetune" == name) == (len(phase_list(config)) == 1)


def test_an_unknown_variant_names_the_student_too():
    with pytest.raises(ValueError, match="unknown variant 'studnt'; did you mean student"):
        adapler.get_config("sst2,studnt")


def test_every_config_file_is_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_lengths_and_sizes_are_consistent(name):
    for argument in arguments(name):
        check_lengths(MODULES[name].get_config(argument))


def check_lengths(config):
    data = config.data
    assert not data.bucket_lengths or data.bucket_lengths[-1] == data.max_length
    assert list(data.bucket_lengths) == sorted(set(data.bucket_lengths))
    assert data.max_length <= (
        1024 if config.task in LONG else 512
    )  # positions of the usual checkpoints


def test_the_presets_are_those_of_the_task_tables():
    presets = {
        name: preset["max_length"] for name, preset in adapler.TASKS.items() if name not in QA_TASKS
    }
    assert presets == {name: task.max_length for name, task in TASKS.items()}
    assert qa.TASKS.keys() == QA_TASKS.keys()


@pytest.mark.parametrize("variant", ["", ",debug"])
@pytest.mark.parametrize(("name", "task"), QA_TASKS.items())
def test_a_question_leaves_room_for_its_text(name, task, variant):
    config = finetune.get_config(name + variant)
    fields = config.qa
    limits = {
        QAKind.MULTIPLE_CHOICE: fields.max_option_tokens,
        QAKind.WIKIHOP: fields.max_candidates,
    }  # a marker each
    limit = limits.get(task.kind, fields.max_question_tokens)
    room = config.data.max_length - limit - 3  # special tokens
    assert room >= 1
    if task.kind == QAKind.SPAN and name != "triviaqa":  # whose windows do not overlap
        assert fields.doc_stride <= room - fields.max_answer_tokens or variant


def test_predictors_of_answers_in_texts_are_held_to_saliency():
    found = {name: adapler.get_config(name).adapler.kl_coef for name in adapler.TASKS}
    spans = {name for name, task in QA_TASKS.items() if task.kind == QAKind.SPAN}
    assert found == {name: 0.1 if name in spans else 0.005 for name in adapler.TASKS}


def test_the_released_scripts_for_questions_have_their_own_constants():
    race, squad, wikihop = (
        trbert.get_config(f"{task},paper") for task in ("race", "squad2", "wikihop")
    )
    assert (
        race.qa.score_options_independently
        and race.trbert.learning_rate == 2e-5
        and race.finetune.num_epochs == 3
    )
    assert not squad.qa.score_options_independently and (
        squad.trbert.imitation_ratio,
        squad.trbert.learning_rate,
    ) == (0.2, 5e-5)
    assert not wikihop.qa.protects_markers and wikihop.trbert.joint_num_epochs == 5
    assert trbert.get_config("imdb,paper").trbert.imitation_ratio == 0.5
    assert (
        trbert.get_config("wikihop").qa.protects_markers
        and not trbert.get_config("race").qa.score_options_independently
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_debug_shrinks_whatever_the_order(name):
    for task in adapler.TASKS:
        config = MODULES[name].get_config(f"{task},debug")
        assert config.data.num_train_examples <= 64
        small = 256 if task == "wikihop" else 64 if task in QA_TASKS else 32
        assert config.data.max_length <= small
        epochs = {
            field: value
            for field, value in flatten(config.to_dict()).items()
            if field.endswith("num_epochs")
        }
        assert set(epochs.values()) <= {0, 1} and epochs["finetune.num_epochs"] == 1


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"finetune"}))
def test_finetuned_trains_no_plain_model_whatever_the_order(name):
    for variants in itertools.permutations(VARIANTS[name]):
        assert MODULES[name].get_config(",".join(("sst2", *variants))).finetune.num_epochs == 0


def test_two_configs_do_not_share_fields():
    first, second = adapler.get_config("sst2"), adapler.get_config("sst2")
    first.data.split_fractions["validation"] = 5
    first.finetune.num_epochs = 99
    assert second.finetune.num_epochs != 99 and "validation" not in second.data.split_fractions


@pytest.mark.parametrize(("name", "module"), MODULES.items())
def test_an_unknown_variant_lists_the_known(name, module):
    argument = "debag" if name == "quickstart" else "sst2,debag"
    with pytest.raises(
        ValueError, match="unknown variant 'debag'; did you mean debug. there are .*debug"
    ):
        module.get_config(argument)


def test_an_old_variant_names_the_present_one():
    with pytest.raises(ValueError, match="variant 'faithful' is now 'paper'"):
        adapler.get_config("sst2,faithful")


@pytest.mark.parametrize(
    ("word", "upgraded", "notes"),
    [
        (
            "--config.adapler.warmup_share=0.1",
            "--config.adapler.warmup_ratio=0.1",
            ["config.adapler.warmup_share is now config.adapler.warmup_ratio"],
        ),
        (
            "-config.reading.stride",
            "-config.qa.doc_stride",
            ["config.reading.stride is now config.qa.doc_stride"],
        ),
        (
            "--config.distil.num_epochs=2",
            "--config.distill.num_epochs=2",
            ["config.distil.num_epochs is now config.distill.num_epochs"],
        ),
        (
            "--noconfig.fresh_head",
            "--noconfig.reinit_head",
            ["config.fresh_head is now config.reinit_head"],
        ),
        (
            "--config=configs/distil.py:sst2,faithful",
            "--config=configs/distill.py:sst2,paper",
            ["configs/distil.py:sst2,faithful is now configs/distill.py:sst2,paper"],
        ),
        ("--config.adapler.warmup_ratio=0.1", "--config.adapler.warmup_ratio=0.1", []),
        ("--config=distill:sst2", "--config=distill:sst2", []),
        ("--workdir=faithful", "--workdir=faithful", []),
        ("--seed=config.fresh_head", "--seed=config.fresh_head", []),
    ],
)
def test_old_names_on_a_command_line_are_read_with_a_note(word, upgraded, notes):
    words = ["train.py", "--config", "adapler:sst2", word]
    assert old_names.upgrade_arguments(words) == ([*words[:3], upgraded], notes)


def test_the_preset_after_its_flag_is_read_by_its_old_name():
    words, notes = old_names.upgrade_arguments(["train.py", "--config", "distil:sst2"])
    assert words == ["train.py", "--config", "distill:sst2"] and len(notes) == 1


def test_old_fields_of_a_config_take_the_place_of_the_present_ones():
    config = {"data": {"carve": 1, "split_fractions": 2}, "distil": {"layers": 3}, "distill": {}}
    assert old_names.upgrade_config(config | {"method": "distil", "seed": 4}) == {
        "data": {"split_fractions": 1},
        "distill": {"layers": 3},
        "method": "distill",
        "seed": 4,
    }
    assert old_names.old_fields(config) == {
        "data.carve": "data.split_fractions",
        "distil.layers": "distill.layers",
    }


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("argument", ["sst3", "", "debug", "SST2"])
def test_an_unknown_task_lists_the_known(name, argument):
    with pytest.raises(ValueError, match=f"unknown task '{argument}';.* there are sst2, .*custom"):
        MODULES[name].get_config(argument)


@loads_a_file
def test_flags_change_fields(parse_flags):
    path = ROOT / "configs" / "adapler.py"
    config = parse_flags(
        f"--config={path}:mrpc,debug",
        "--config.model=here",
        "--config.adapler.length_coef=0.1",
        "--config.adapt.target_speedups=(2.0,)",
        "--config.data.split_fractions={'validation': 0.2}",
    )
    assert (config.task, config.model, config.adapler.length_coef) == ("mrpc", "here", 0.1)
    assert config.adapt.target_speedups == (2.0,)
    assert dict(config.data.split_fractions) == {"validation": 0.2}


@loads_a_file
@pytest.mark.parametrize(
    ("field", "suggestion"),
    [("adapler.lenght_coef", "length_coef"), ("modle", "model"), ("data.max_lenght", "max_length")],
)
def test_a_misspelt_field_stops_with_a_suggestion(parse_flags, field, suggestion):
    with pytest.raises((AttributeError, flags.Error), match=f'Did you mean "{suggestion}"'):
        parse_flags(f"--config={ROOT / 'configs' / 'adapler.py'}:sst2", f"--config.{field}=1")


@loads_a_file
def test_a_value_of_another_type_is_refused(parse_flags):
    with pytest.raises((TypeError, ValueError, flags.Error)):
        parse_flags(
            f"--config={ROOT / 'configs' / 'adapler.py'}:sst2", "--config.finetune.num_epochs=three"
        )


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_configs_import_nothing_of_the_library(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= {"adapler_jax", "configs", "difflib", "ml_collections"}
