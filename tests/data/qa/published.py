"""Share questions in the forms of SQuAD and MRQA, and functions that write and read files."""

import json

from adapler_jax.data.qa.questions import Question, stream_questions

CONTEXT = "Ada wrote it in London, in 1843."
FLAT = {
    "id": "1",
    "question": "Where?",
    "context": CONTEXT,
    "answers": {"text": ["London", "in London", "London"], "answer_start": [16, 13, 16]},
}
QUESTION = Question("1", "Where?", CONTEXT, ("London", "in London"), ((16, 22), (13, 22)))


def answer(text, start):
    """An answer as SQuAD publishes it."""
    return {"text": text, "answer_start": start}


NESTED = {
    "version": "v2.0",
    "data": [
        {
            "title": "Ada [Lovelace]",
            "paragraphs": [
                {
                    "qas": [
                        {
                            "question": "Where?",
                            "id": "1",
                            "answers": [answer("London", 16), answer("in London", 13)],
                        },
                        {
                            "question": "Who else?",
                            "id": "2",
                            "answers": [],
                            "plausible_answers": [answer("Ada", 0)],
                            "is_impossible": True,
                        },
                    ],
                    "context": CONTEXT,
                }
            ],
        },
        {
            "title": "Ö",
            "paragraphs": [
                {
                    "context": "Ä ö",
                    "qas": [{"question": "?", "id": "3", "answers": [answer("ö", 2)]}],
                }
            ],
        },
    ],
}
NESTED_QUESTIONS = [
    QUESTION,
    Question("2", "Who else?", CONTEXT, (), ()),
    Question("3", "?", "Ä ö", ("ö",), ((2, 3),)),
]

MRQA = [
    {"header": {"dataset": "NewsQA", "split": "train"}},
    {
        "id": "",
        "context": "[DOC] [TLE] Ada [PAR] In London, Ada wrote.",
        "context_tokens": [["[DOC]", 0]],
        "qas": [
            {
                "qid": "a",
                "question": "Who?",
                "answers": ["Ada", "Ada Lovelace"],
                "detected_answers": [
                    {"text": "ada", "char_spans": [[12, 14], [33, 35]], "token_spans": [[2, 2]]}
                ],
            },
            {"qid": "b", "question": "When?", "answers": ["1843"], "detected_answers": []},
        ],
    },
]
MRQA_QUESTIONS = [
    Question("a", "Who?", MRQA[1]["context"], ("Ada", "Ada Lovelace"), ((12, 15), (33, 36))),
    Question("b", "When?", MRQA[1]["context"], ("1843",), ()),
]


def lines(*rows):
    """JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(path, content, **options):
    """The questions of a file with this content."""
    path.write_text(content, encoding="utf-8")
    return list(stream_questions(f"file:{path}", split="train", **options))
