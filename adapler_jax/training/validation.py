"""Score a model on a split while it trains, under the hard rule."""

from adapler_jax.evaluation.models import evaluate_model, true_speedup
from adapler_jax.evaluation.scoring import Scorer
from adapler_jax.pruning.base import Pruner
from adapler_jax.training.setup import RunContext
from adapler_jax.types import Params

TOKEN_SPEEDUP = "token_speedup"


def validate(params: Params, context: RunContext, pruner: Pruner, batches, scorer: Scorer) -> dict:
    """Return {"score", "nll"} of batches of a whole split, and other results of its scorer.

    For a pruner with sites also {"flops_speedup", "kept_tokens": [N]}, from true counts, over the
    full encoder. Of a student also TOKEN_SPEEDUP, over the student.
    """
    found = evaluate_model(
        params,
        context.encoder,
        pruner,
        batches,
        scorer=scorer,
        head=context.head,
        dense_config=context.full_encoder,
        dtype=context.dtype,
        driver="masked",
    )
    scores = found.scores | {"nll": round(found.nll, 5)}
    if not pruner.sites:
        return scores
    scores["flops_speedup"] = found.flops_speedup
    if context.full_encoder is not None:
        scores[TOKEN_SPEEDUP] = true_speedup(
            params, context.encoder, pruner, found.length_E, found.count_NE, head=context.head
        )
    return scores | {"kept_tokens": [round(tokens, 3) for tokens in found.kept_tokens]}


def token_speedup(scores: dict) -> float | None:
    """Return the FLOPs speedup of a phase's scores that dropped tokens alone give; None for dense.

    Of a student it is the speedup over the student with all tokens.
    """
    return scores.get(TOKEN_SPEEDUP, scores.get("flops_speedup"))


def validation_split(context: RunContext) -> str:
    """Return the split that models are chosen on: validation, or the first of several."""
    return next(name for name in context.splits if name.startswith("validation"))


def validation_scores(params: Params, context: RunContext, pruner: Pruner, batch_size: int) -> dict:
    """Return the scores of `validate` on the split that models are chosen on."""
    split = validation_split(context)
    batches = context.eval_batches(split, batch_size)
    return validate(params, context, pruner, batches, context.task.make_scorer(split))
