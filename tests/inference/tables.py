"""Latency tables made up by hand."""

from adapler_jax.inference.autotune.table import BUCKET, LatencyTable, Row
from adapler_jax.io.provenance import device_name, library_versions

MINILM, BASE = (6, 12, 384, 1536), (12, 12, 768, 3072)
SCHEDULES = (None, 1.0, 4.0)


def make_row(
    what, ms, *, sizes=MINILM, dtype="float32", shape=(32, 128), live_share=0.75, speedup=1.0
):
    """A row; sizes are layers, heads, hidden and feed-forward."""
    num_layers, num_heads, hidden_dim, ffn_dim = sizes
    return Row(
        what=what,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        ffn_dim=ffn_dim,
        dtype=dtype,
        batch=shape[0],
        length=shape[1],
        live_share=live_share,
        speedup=speedup,
        ms=float(ms),
    )


def make_case(bucketed, packed, **options):
    """Both drivers on one case: milliseconds by schedule, plain BERT first."""
    return [
        make_row(what, ms, speedup=speedup, **options)
        for what, times in (("bucketed", bucketed), ("packed", packed))
        for speedup, ms in zip(SCHEDULES, times, strict=True)
    ]


def make_bucket_rows(ms_by_bucket, *, batch, **options):
    """Rungs at one batch size."""
    return [
        make_row(BUCKET, ms, shape=(batch, bucket), live_share=1.0, **options)
        for bucket, ms in ms_by_bucket.items()
    ]


def make_table(rows, **changes):
    """A table of this device and these versions, unless `changes` says otherwise."""
    fields = {
        "command": "c",
        "device": device_name(),
        "versions": library_versions(),
        "date": "2026-01-01T00:00:00",
    }
    return LatencyTable(**fields | changes, rows=tuple(rows))


# At batch 1 "bucketed" is faster and short buckets save nothing. At batch 32 "packed" is faster,
# except for models that drop most tokens.
TABLE = make_table(
    [
        *make_case((10.0, 12.0, 8.0), (20.0, 24.0, 16.0), shape=(1, 128), live_share=1.0),
        *make_case((100.0, 120.0, 40.0), (100.0, 60.0, 50.0), shape=(32, 128)),
        *make_bucket_rows({2: 5.0, 16: 5.05, 32: 5.1, 64: 8.0, 128: 12.0}, batch=1),
        *make_bucket_rows({2: 2.0, 16: 16.0, 128: 128.0}, batch=32),
    ]
)
