"""Markup in texts and names stays text, and only the page's own script can run."""

from adapler_jax.report import page
from adapler_jax.report.contents import read_contents
from adapler_jax.report.explorer import build_explorer
from tests.report.explained import CLASSES, NUM_LAYERS, SITES, explain
from tests.report.pages import check_page

EVIL = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'


def rendered(finished, explanations, classes=CLASSES, **meta):
    explorer = build_explorer(
        iter([explanations]),
        [0] * len(explanations),
        model=EVIL,
        class_names=classes,
        num_layers=NUM_LAYERS,
        site_layers=SITES,
    )
    explorer.meta.update({"split": "test", "splitSize": len(explanations)} | meta)
    run = read_contents(finished, None)
    return page.render(run, [page.sections.phases(run)], explorer)


def test_markup_in_texts_names_and_labels_stays_text(finished):
    plain = check_page(rendered(finished, [explain("good")]))
    found = check_page(rendered(finished, [explain(EVIL, label=EVIL)], classes=("bad", EVIL)))
    assert [tag for tag, _ in found.seen] == [tag for tag, _ in plain.seen]
    assert EVIL in "".join(found.texts)  # the model's name


def test_the_policy_lets_only_the_page_s_own_script_run(finished):
    text = rendered(finished, [explain("good")])
    (policy,) = [
        attributes["content"]
        for attributes in check_page(text).all("meta")
        if "http-equiv" in attributes
    ]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_the_script_writes_texts_as_texts_only():
    script = page.source("explorer.js")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "</script",
    ):
        assert word not in script
