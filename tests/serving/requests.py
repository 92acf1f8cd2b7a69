"""Bulk prediction in one call of flat keywords."""

from adapler_jax.serving import bulk
from adapler_jax.serving.predictors import ModelSettings


def predict_file(model, *, log=lambda line: None, **options):
    """Predict with the fields of a request and of its settings in one call."""
    settings = {name: options.pop(name) for name in ModelSettings._fields if name in options}
    request = bulk.PredictRequest(model, settings=ModelSettings(**settings), **options)
    return bulk.predict_file(request, log=log)


def run(model, source, output="-", **options):
    """Predict from a path to a path, four rows at a time."""
    return predict_file(model, source=str(source), output=str(output), batch_size=4, **options)
