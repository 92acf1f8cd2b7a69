"""Presets of the question-answering tasks, and the section of fields that they share.

Lengths, strides and limits come from TR-BERT's released program. DREAM and SubjQA are not in it.
"""


def qa_section() -> dict:
    """Return the section that turns questions into rows, and logits into answers."""
    return {
        "doc_stride": 128,  # context tokens from the start of a window to the next window's start
        "max_question_tokens": 64,  # longer questions are cut
        "max_answers": 1,  # accepted answers of a window that are trained on
        "max_answer_tokens": 30,  # longest answer
        "n_best_size": 20,  # answers of a window that are compared
        "skip_mismatched": False,  # skip, and count, questions whose answer is not at its offset
        "max_option_tokens": 128,  # of a question and one of its options
        "max_sentences": 80,  # that may support an answer (HotpotQA)
        "max_candidates": 79,  # of a question (WikiHop)
        # Rows that share a question's texts, scores averaged (WikiHop); or 8 of max_length=512.
        "max_packed_questions": 1,
        # Ends of sentences and candidates' markers, which a head needs, are kept; False: authors'.
        "protects_markers": True,
        # Questions that select models, drawn by data.split_seed; 0: all.
        "num_validation_examples": 0,
        # Judge each option alone, as right or wrong; False: the options against each other.
        "score_options_independently": False,
    }


# With the 0.005 of classes, the predictors of answers in texts converge to one score for all
# tokens: docs/measurements.md.
SPANS = {"kl_coef": 0.1}
SQUAD = {"max_length": 384, "batch_size": 16, "adapler": SPANS}
MRQA = {
    "max_length": 512,
    "batch_size": 16,
    "adapler": SPANS,
    "qa": {"max_question_tokens": 40},
}
# TR-BERT's alphas, near its program's of RACE: with 1.0 its selectors cost 2 points on DREAM's
# validation questions.
CHOICE = {
    "max_length": 256,
    "batch_size": 8,
    "trbert": {"policy_length_coef": 0.1, "joint_length_coef": 0.1},
}
TASKS = {
    "squad": SQUAD,
    "squad2": SQUAD,
    "subjqa": SQUAD,
    "custom_span": SQUAD,
    "newsqa": MRQA,
    "natural_questions": MRQA,
    "triviaqa": {
        "max_length": 1024,
        "batch_size": 8,
        "adapler": SPANS,
        "qa": {"doc_stride": 1024, "max_question_tokens": 55, "max_answers": 64},
    },
    "race": {"max_length": 512, "batch_size": 8},
    "dream": CHOICE,
    "custom_choice": CHOICE,
    "hotpotqa": {
        "max_length": 1024,
        "batch_size": 8,
        "qa": {"max_question_tokens": 80, "max_answers": 8},
    },
    "wikihop": {"max_length": 1024, "batch_size": 8},
}


def shrink(config) -> None:
    """Set the lengths of a dry run."""
    # WikiHop needs all candidates in every row.
    config.data.max_length = 256 if config.task == "wikihop" else 64
    config.data.bucket_lengths = (config.data.max_length,)
    config.qa.update({"doc_stride": 64, "max_question_tokens": 16, "max_option_tokens": 24})
    config.qa.num_validation_examples = 32
