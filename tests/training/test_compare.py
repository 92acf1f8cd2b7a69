"""A model that a run trained, read by transformers.BertModel."""

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the live comparisons with PyTorch did not run"
)
transformers = pytest.importorskip("transformers")

from adapler_jax.training.run import run_all  # noqa: E402
from adapler_jax.weights.save import load_model  # noqa: E402
from tests.plain_bert import encode  # noqa: E402

pytestmark = pytest.mark.compare


def test_a_trained_encoder_gives_pytorch_the_same_states(make_config, workdirs):
    workdir = workdirs()
    run_all(make_config(), workdir, log=lambda _: None)
    saved = load_model(workdir / "adapler" / "model")
    tokens_BL = (
        np.random.default_rng(0).integers(0, saved.config.vocab_size, (3, 12)).astype(np.int32)
    )
    valid_BL = np.arange(12) < np.array([[12], [7], [2]])
    model = transformers.BertModel.from_pretrained(
        workdir / "adapler" / "model", attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        expected_BLD = model(
            torch.tensor(tokens_BL, dtype=torch.long), torch.tensor(valid_BL, dtype=torch.long)
        )[0]
    found_BLD = encode(
        saved.params["encoder"], saved.config, tokens_BL, jnp.zeros_like(tokens_BL), valid_BL
    )
    np.testing.assert_allclose(
        found_BLD[valid_BL], expected_BLD.numpy()[valid_BL], rtol=0, atol=1e-5
    )
