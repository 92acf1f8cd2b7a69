"""Seconds of the drivers on given survival schedules: dense, bucketed and packed, on random weights.

    python -m benchmarks.engines [--quick] [--models minilm,base] [--cases 32x128,...] [--dtypes float32] [--json PATH]

Texts are half to whole as long as the batch's length, one is as long. AdapLeR's thresholds are set layer by layer so
that the share of kept tokens falls evenly to the wanted FLOPs speedup; which tokens go, and how many of each text, is
left to the scores of random predictors. All drivers take turns in one run. `efficiency` is the wall-clock speedup over
the dense model, padding included as everybody runs it, by the FLOPs speedup of true tokens; `packed_efficiency` is over
dense texts without padding (keep_all, packed).
"""

import argparse
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import encoder, flops, full_width, heads
from adapler_jax.inference.engine import lay_out, make_engine
from adapler_jax.inference.evaluation import true_speedup
from adapler_jax.inference.measure import median_speedup, time_interleaved
from adapler_jax.pruning import adapler, keep_all
from adapler_jax.report.results import write_results
from adapler_jax.training.setup import COMPUTE_DTYPES
from adapler_jax.types import Batch, EncoderConfig
from benchmarks.models import BASE, MINILM, QUICK

MODELS = {"minilm": MINILM, "base": BASE, "quick": QUICK}
CASES = ("1x128", "1x512", "8x128", "32x128", "32x512")
SPEEDUPS = (1.0, 2.0, 3.3, 9.0)
PREDICTOR_DIM = 32
PREDICTOR_SCALE = 5.0  # of the random predictors' kernels: tokens get scores that differ
NUM_BISECTIONS = 40


def random_params(config: EncoderConfig):
    """Random weights with predictors."""
    encoder_key, head_key, pruner_key = jax.random.split(jax.random.key(0), 3)
    pruner = adapler(config, predictor_dim=PREDICTOR_DIM).init(pruner_key, config)
    for name in ("hidden", "score"):
        pruner[name]["kernel"] = pruner[name]["kernel"] * PREDICTOR_SCALE
    return {
        "encoder": encoder.init_encoder(encoder_key, config),
        "head": heads.init_classifier(head_key, config, 2),
        "pruner": pruner,
    }


def mixed_batch(config: EncoderConfig, batch_size: int, length: int) -> Batch:
    """Random tokens in texts of length / 2 to length, the first as long as the batch."""
    rng = np.random.default_rng(0)
    length_B = rng.integers(length // 2, length + 1, batch_size)
    length_B[0] = length
    live_BL = np.arange(length) < length_B[:, None]
    return Batch(
        token_BL=np.where(live_BL, rng.integers(1, config.vocab_size, (batch_size, length)), 0).astype(np.int32),
        segment_BL=np.zeros((batch_size, length), np.int32),
        live_BL=live_BL,
        label_B=np.zeros(batch_size, np.int32),
        example_id_B=np.arange(batch_size, dtype=np.int32),
    )


def kept_shares(config: EncoderConfig, length: int, speedup: float) -> np.ndarray:
    """Shares of the tokens that the layers run on, falling by one factor a layer: float64 [N]."""
    dense = flops.dense_flops(config, [length], num_classes=2)

    def shares(factor):
        return factor ** np.arange(1, config.num_layers + 1)

    def found(factor):
        count_N1 = np.maximum(1, np.round(shares(factor) * length))[:, None]
        pruned = flops.pruned_flops(config, [length], count_N1, predictor_dim=PREDICTOR_DIM, num_classes=2)
        return flops.speedup(dense, pruned)

    low, high = 0.0, 1.0
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) < speedup else (middle, high)
    return shares(high)


def set_thresholds(params, config: EncoderConfig, batch: Batch, share_N):
    """The parameters with thresholds that keep these shares of all tokens of the batch."""
    pruner = adapler(config, predictor_dim=PREDICTOR_DIM)
    num_tokens = int(batch.live_BL.sum())

    def select(site_params, index, view):
        open_ = pruner.select(site_params | {"threshold_N": jnp.float32(0.0)}, index, view)
        ratio_BL = jnp.where(view.live_BL, open_.score_BL * jnp.sum(view.live_BL, -1, keepdims=True), -1.0)
        num_kept = jnp.round(jnp.asarray(share_N, jnp.float32)[index] * num_tokens).astype(jnp.int32)
        level = jnp.sort(ratio_BL.reshape(-1))[-jnp.clip(num_kept, 1, num_tokens)]
        keep_BL = (ratio_BL >= level).at[:, 0].set(view.live_BL[:, 0])
        return open_.replace(keep_BL=keep_BL, score_BL=jnp.broadcast_to(level, ratio_BL.shape))

    fixed = pruner._replace(select=select)
    _, trace = jax.jit(functools.partial(full_width.forward, config=config, pruner=fixed, slope=None))(
        params, batch=batch
    )
    return params | {"pruner": params["pruner"] | {"threshold_N": trace.score_NBL[:, 0, 0]}}


def measure(name: str, batch_size: int, length: int, dtype: str, speedups, num_rounds: int) -> list[dict]:
    """A row a schedule and driver."""
    config = MODELS[name]
    params, batch = random_params(config), mixed_batch(config, batch_size, length)
    plain = lay_out(params | {"pruner": {}}, config, COMPUTE_DTYPES[dtype])
    pruner, none = adapler(config, predictor_dim=PREDICTOR_DIM), keep_all()
    options = {"dtype": COMPUTE_DTYPES[dtype]}
    runs = {driver: make_engine(config, pruner, driver=driver, **options) for driver in ("bucketed", "packed")}
    dense_runs = {
        "dense": make_engine(config, none, driver="bucketed", **options),
        "dense, packed": make_engine(config, none, driver="packed", **options),
    }
    mean_length = int(batch.live_BL.sum(-1).mean())
    at_speedup = {}
    for speedup in speedups:
        pruned = set_thresholds(params, config, batch, kept_shares(config, mean_length, speedup))
        at_speedup[speedup] = lay_out(pruned, config, COMPUTE_DTYPES[dtype])
    batch = jax.device_put(batch)
    calls = {(1.0, engine): functools.partial(run, plain, batch) for engine, run in dense_runs.items()}
    calls |= {
        (speedup, engine): functools.partial(run, pruned, batch)
        for speedup, pruned in at_speedup.items() for engine, run in runs.items()
    }  # fmt: skip
    timings = time_interleaved(calls, repeats=num_rounds)
    rows = []
    for (target, engine), timing in timings.items():
        found = 1.0
        if engine in runs:
            count_NB = np.asarray(calls[target, engine]()[1].count_NB)
            found = true_speedup(at_speedup[target], config, np.asarray(batch.live_BL).sum(-1), count_NB)
        wall, packed = (median_speedup(timings[1.0, dense], timing) for dense in dense_runs)
        rows.append({
            "model": name, "batch": batch_size, "length": length, "dtype": dtype, "engine": engine, "target": target,
            "flops_speedup": found, "wall_ms": 1e3 * timing.median_s, "wall_ms_min": 1e3 * timing.spread_s[0],
            "wall_ms_max": 1e3 * timing.spread_s[1], "wall_speedup": wall, "efficiency": wall / found,
            "packed_efficiency": packed / found, "first_s": timing.first_s, "num_timings": num_rounds,
        })  # fmt: skip
    return rows


def main(arguments=None) -> list[dict]:
    """Measures, prints and returns the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small encoder and batch, two rounds")
    parser.add_argument("--models", default="minilm,base")
    parser.add_argument("--cases", default=",".join(CASES), help="batch x length")
    parser.add_argument("--speedups", default=",".join(map(str, SPEEDUPS)))
    parser.add_argument("--dtypes", default=",".join(COMPUTE_DTYPES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    if options.quick:
        options.models, options.cases, options.speedups, options.rounds = "quick", "4x16", "1,2", 2
    rows = []
    for model in options.models.split(","):
        for dtype in options.dtypes.split(","):
            for case in options.cases.split(","):
                speedups = [float(speedup) for speedup in options.speedups.split(",")]
                rows += measure(model, *map(int, case.split("x")), dtype, speedups, options.rounds)
    write_results(rows, command=" ".join(["python -m benchmarks.engines", *sys.argv[1:]]), path=options.json)
    return rows


if __name__ == "__main__":
    main()
