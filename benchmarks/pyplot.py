"""matplotlib for the benchmarks' pictures; part of requirements-peers.txt."""

from benchmarks.peer_systems import REQUIREMENTS


def load_pyplot():
    """matplotlib.pyplot, without a screen. Raises ValueError where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        raise ValueError(f"a plot needs matplotlib: pip install -r {REQUIREMENTS}") from None

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
