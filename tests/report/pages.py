"""Write a run's page and records of its evaluation, and check the page's elements."""

import html.parser
import json
import re

from adapler_jax.report.page import write_report

VOID = {"meta", "br", "img", "input", "link"}


class Elements(html.parser.HTMLParser):
    """Checks that elements are closed in order and counts them."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.texts, self.ids = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


def check_page(text) -> Elements:
    """Check properties of every page."""
    found = Elements(text)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    for _, attributes in found.seen:
        assert not any(
            name in ("src", "srcset", "onclick", "onerror", "onload") for name in attributes
        )
        assert all(attributes.get(name, "#").startswith("#") for name in ("href", "xlink:href"))
    assert not re.search(r"url\((?!#)|@import", text)
    return found


def evaluation_rows(methods=("dense", "adapler", "adapt-1.2x"), **more):
    rows = []
    for place, method in enumerate(methods):
        row = {
            "task": "custom",
            "split": "test",
            "num_texts": 32,
            "method": method,
            "seed": 0,
            "dtype": "float32",
            "metric": "accuracy",
            "test_score": 0.9 - 0.01 * place,
            "dense_score": 0.9,
            "flops_speedup": 1.0 + 0.5 * place,
            "kept_tokens": [8.0, 8.0 - place, 8.0 - 2 * place, 1.5],
        }
        row |= {"majority_share": 0.6, "ece": 0.03, "confusion": [[15, 1], [2, 14]]}
        row["classes"] = [
            {"name": name, "precision": 0.875, "recall": 0.9375, "f1": 0.9, "support": 16}
            for name in ("bad", "good")
        ]
        for size in (1, 32) if place else ():
            row |= {
                f"wall_ms_{size}": 1.0,
                f"wall_speedup_{size}": 1.1 + place,
                f"efficiency_{size}": 0.9,
            }
        rows.append(row | more)
    return rows


def write_evaluation(workdir, rows):
    record = {
        "command": "python evaluate.py --workdir=w",
        "commit": "abc",
        "device": "a device",
        "versions": {"jax": "1"},
        "date": "2026-01-01",
        "rows": rows,
    }
    (workdir / "evaluation.json").write_text(json.dumps(record))


TRAINED_BY = "python train.py --config=c.py:custom --workdir='<my run>'"


def report(workdir, **options):
    """Return the page of a run, and the logged notes."""
    notes = []
    path = write_report(workdir, **{"num_examples": 20} | options, log=notes.append)
    return path.read_text(encoding="utf-8"), notes
