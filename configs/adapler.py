r"""Train AdapLeR on one task.

    python train.py --config=configs/adapler.py:TASK[,student][,paper][,finetuned][,debug] \
        --workdir=W

The variant `student` distils a model of fewer layers first, and drops tokens in it. Speedups are
over the full model.

All measurements use MiniLM-L6 and bfloat16 operands on CPUs. Commands, commits and devices are in
`benchmarks/results/`. FLOPs count true tokens, and every token of the last layer on both sides, as
they did before it computed [CLS] alone.

Test accuracy on Rotten Tomatoes, mean of three seeds (`python -m benchmarks.accuracy`,
accuracy-rotten_tomatoes.json):

    model                                   FLOPs speedup   accuracy
    dense                                            1.00       84.3
    plain BERT trained for seven epochs              1.00       84.9
    AdapLeR, calibrated                              1.70       84.1
    AdapLeR, as trained                              1.87       83.7
    AdapLeR, calibrated                              2.98       82.5

Test accuracy on IMDB, one seed, 5,000 training reviews of up to 256 tokens, 2,490 test reviews
(accuracy-imdb_package.json):

    model                                   FLOPs speedup   accuracy
    dense                                            1.00       86.3
    AdapLeR, calibrated                              1.71       86.1
    AdapLeR, as trained                              1.81       86.2
    AdapLeR, calibrated                              3.02       85.2

Validation accuracy with one choice of the default recipe changed at a time (`python -m
benchmarks.ablation`, ablation-rotten_tomatoes.json): one seed, 1,280 training sentences, all
models calibrated to 1.70x or 1.71x by one more epoch. The fine-tuned model has accuracy 81.1 and
NLL 0.435. The 853 sentences leave a standard error of about 1.3 points. The effects of
distillation, of the predictors' own learning rate and of the initial weights exceed it; the other
effects do not.

    choice                                                  accuracy   NLL
    default                                                     81.7   0.443
    predictor_learning_rate=5e-5, the encoder's                 75.6   0.510
    distil_coef=0.0                                             78.8   0.752
    init_from="pretrained"                                      78.4   0.474
    threshold_noise=0.0                                         79.4   0.449
    slope_schedule="epochs"                                     80.0   0.444
    relative_length=False, coefficient and target in tokens     80.4   0.446
    stop_target_gradient=False                                  80.3   0.441
    length_target=0.0, length_coef=1.0                          80.8   0.441
"""

from adapler_jax.presets import common
from adapler_jax.presets.adapler import adapler_config
from adapler_jax.presets.tasks import TASKS

STUDENT = "student"  # a variant


def paper(config):
    """Set the recipe of the released program, step by step."""
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
    """Return the config; `argument` is "task[,student][,paper][,finetuned][,debug]"."""
    task, variants = common.split_argument(argument, TASKS)
    config = adapler_config(task, has_student=STUDENT in variants)
    known = common.VARIANTS | {"paper": paper, STUDENT: lambda config: None}  # there already
    common.apply_variants(config, variants, known)
    return config
