"""List the methods of training. A method is one file here and one line in `METHODS`."""

from adapler_jax.training.methods import (
    adapler,
    distill,
    finetune,
    ltp,
    powerbert,
    training_free,
    trbert,
)
from adapler_jax.training.methods.base import Method

# Name in configs and of the last phase -> record.
METHODS: dict[str, Method] = {
    "finetune": finetune.METHOD,
    "adapler": adapler.METHOD,
    "powerbert": powerbert.METHOD,
    "trbert": trbert.METHOD,
    "ltp": ltp.METHOD,
    "distill": distill.METHOD,
    "attention": training_free.ATTENTION,
    "vocabulary": training_free.VOCABULARY,
}
