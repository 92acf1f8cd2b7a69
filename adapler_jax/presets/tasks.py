"""Tasks that every config file takes, with the length and batch size of each."""

from typing import Any

from adapler_jax.presets import qa

# Lengths and batch sizes of the released program; its SST-2 values where it names none.
TASKS: dict[str, Any] = {
    "sst2": {"max_length": 64},
    "imdb": {"max_length": 512, "batch_size": 16},
    "hatexplain": {"max_length": 72},
    "mrpc": {"max_length": 128},
    "mnli": {"max_length": 128},
    "qnli": {"max_length": 128},
    "ag_news": {"max_length": 128},
    "dbpedia": {"max_length": 128},
    "rotten_tomatoes": {"max_length": 64},
    "imdb_package": {"max_length": 256, "batch_size": 16},
    "20newsgroups": {"max_length": 512, "batch_size": 16},
    "r8": {"max_length": 128},
    "bbc": {"max_length": 512, "batch_size": 16},
    "yelp_full": {"max_length": 512, "batch_size": 16},
    "hyperpartisan": {"max_length": 512, "batch_size": 16},
    "stsb": {"max_length": 128},
    "custom": {"max_length": 128},
    "custom_scores": {"max_length": 128},
    "custom_multi_label": {"max_length": 128},
    "custom_similarity": {"max_length": 128},
    "custom_tokens": {"max_length": 128},
} | qa.TASKS
