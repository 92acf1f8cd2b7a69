"""Load matplotlib for the benchmarks' pictures."""

import matplotlib


def load_pyplot():
    """Return matplotlib.pyplot, without a screen."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
