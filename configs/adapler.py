"""AdapLeR on one task: --config=configs/adapler.py:TASK[,paper][,finetuned][,debug]

What was measured with MiniLM-L6 and bfloat16 operands; commands, commits and devices are in `benchmarks/results/`.

Rotten Tomatoes (`python -m benchmarks.accuracy`, accuracy-rotten_tomatoes.json): mean test accuracy of three seeds.
Dense 84.3, plain BERT trained for seven epochs 84.9; AdapLeR 83.7 at 1.87x fewer operations as trained, 84.1 at 1.70x,
82.5 at 2.98x.

IMDB (accuracy-imdb_package.json): one seed, 5,000 training reviews of up to 256 tokens, 2,490 test reviews. Dense 86.3;
AdapLeR 86.2 at 1.81x, 86.1 at 1.71x, 85.2 at 3.02x.

Each choice of the default recipe changed alone, on validation (`python -m benchmarks.ablation`,
ablation-rotten_tomatoes.json): one seed, 1,280 training sentences, all brought to 1.70x or 1.71x by training on for an
epoch. The 853 sentences leave a standard error of about 1.3 points: distillation, the predictors' own rate and the
start are clear, the others are within it. The fine-tuned model has accuracy 81.1 and NLL 0.435.

    choice                                              accuracy   NLL
    default                                                 81.7   0.443
    predictor_learning_rate=5e-5, as the encoder's          75.6   0.510
    distil_coef=0.0                                         78.8   0.752
    start="pretrained"                                      78.4   0.474
    threshold_noise=0.0                                    79.4   0.449
    slope_schedule="epochs"                                 80.0   0.444
    relative_length=False, coefficient and target in tokens 80.4   0.446
    stop_target_gradient=False                                  80.3   0.441
    length_target=0.0, length_coef=1.0                      80.8   0.441
"""

from adapler_jax.presets import common, sections
from adapler_jax.presets.tasks import TASKS


def paper(config):
    """The released program step by step."""
    config.finetune.update(
        {"num_epochs": 5, "learning_rate": 2e-5, "clip_norm": 0.0, "num_checkpoints": 3}
    )
    config.saliency.num_checkpoints = 3
    config.adapler.update(
        {
            "init_from": "pretrained",
            "num_epochs": 5,
            "learning_rate": 3e-5,
            "predictor_learning_rate": 3e-5,
            "threshold_learning_rate": 5e-4,
            "adam_epsilon": 1e-12,
            "length_coef": 0.0005,
            "length_target": 0.0,
            "threshold_noise": 0.0,
            "distil_coef": 0.0,
            "relative_length": False,
            "stop_target_gradient": False,
            "clip_cls_ratio": False,
            "slope_schedule": "epochs",
            "checkpoint_selection": "authors",
        }
    )
    config.adapt.target_speedups = ()


def get_config(argument="sst2"):
    """The run's config; `argument` is "task[,paper][,finetuned][,debug]"."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(
        task,
        TASKS[task],
        saliency=sections.saliency_section(),
        adapler=sections.adapler_section(),
        adapt=sections.adapt_section(),
    )
    config.method = "adapler"
    common.apply_variants(config, variants, common.VARIANTS | {"paper": paper})
    return config
