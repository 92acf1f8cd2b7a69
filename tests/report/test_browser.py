"""The page in a real browser: it needs a Chromium, and playwright of requirements-baselines.txt."""

import numpy as np
import pytest

from adapler_jax.report import page, sections
from adapler_jax.report.contents import read_contents
from adapler_jax.report.explorer import build_explorer
from adapler_jax.training.workdir import claim_workdir
from benchmarks.report_page import CHROMIUM, CHROMIUM_ARGUMENTS, open_page
from tests.report.explained import NUM_LAYERS, SITES, explain

pytestmark = pytest.mark.compare
EVIL = '</script><script>document.title = "run"</script><img src=x onerror="document.title=1">'
CLASSES = ("bad", EVIL, "طيب")
TEXTS = [
    ("a good film .",),
    (EVIL,),
    ("سلام דנה عالم كبير",),
    ("😀 is 👩‍👩‍👧 𝒳 done",),  # noqa: RUF001  # a letter of two UTF-16 units
    ("first text", "second one"),
    (" ",),
    (" ".join(f"word{index}" for index in range(50_000)),),
]
LONG = len(TEXTS) - 1


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def explanations():
    rest = [(f"text number {number} is here",) for number in range(300)]
    return [
        explain(*texts, label=CLASSES[row % 2], seed=row, num_words=5000)
        for row, texts in enumerate(TEXTS + rest)
    ]


@pytest.fixture(scope="module")
def address(make_config, tmp_path_factory, explanations):
    workdir = tmp_path_factory.mktemp("browsed") / "run"
    claim_workdir(workdir, make_config().to_dict())
    labels = [row % 3 for row in range(len(explanations))]
    chunks = (explanations[start : start + 128] for start in range(0, len(explanations), 128))
    explorer = build_explorer(
        chunks,
        labels,
        model="adapler",
        class_names=CLASSES,
        num_layers=NUM_LAYERS,
        site_layers=SITES,
    )
    explorer.meta.update({"split": "test", "splitSize": len(labels)})
    path, run = workdir / "report.html", read_contents(workdir, None)
    path.write_text(page.render(run, [page.sections.phases(run)], explorer), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """Open the page on a phone without a network; it must report and request nothing."""
    context = browser.new_context(offline=True, viewport={"width": 380, "height": 800})
    tab, complaints, requests = context.new_page(), [], []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(address)
    tab.wait_for_selector("#examples li")
    yield tab
    assert complaints == []
    assert requests == [address]
    context.close()


def shown(tab):
    """The words of each drawn text."""
    return tab.eval_on_selector_all(
        "#examples .text",
        "texts => texts.map(text => "
        "[...text.querySelectorAll('.word')].map(word => word.textContent))",
    )


def status(tab):
    tab.wait_for_timeout(300)
    return tab.inner_text("#status")


def test_texts_are_drawn_as_they_are(opened, explanations):
    title = opened.title()
    expected = [
        [word.text for word in one.prediction.words if word.part == part]
        for one in explanations[:10]
        for part in range(len(one.prediction.texts))
    ]
    found = shown(opened)
    cut = [index for index, words in enumerate(expected) if len(words) > 1500]
    for index in cut:
        expected[index] = expected[index][:1500]
    assert found == expected and len(cut) == 1
    assert (
        opened.title() == title and opened.locator("#examples img, #examples script").count() == 0
    )
    assert EVIL in opened.inner_text("#by-label")
    assert opened.inner_text("#examples li:nth-child(2) .text") == EVIL
    assert opened.inner_text("#examples li:nth-child(6) .text") == "(empty text)"


def test_right_to_left_texts_run_right_to_left(opened):
    directions = opened.eval_on_selector_all(
        "#examples .text", "all => all.map(one => getComputedStyle(one).direction)"
    )
    assert directions[:4] == ["ltr", "ltr", "rtl", "ltr"]


def test_a_long_text_is_drawn_in_parts(opened, explanations):
    more = opened.locator("#examples button")
    assert more.inner_text() == "3,500 more words"
    more.click()
    assert more.inner_text() == "2,000 more words"
    more.click()
    more.click()
    assert more.count() == 0
    assert "characters more" in opened.inner_text("#examples .unread")
    words = next(words for words in shown(opened) if len(words) > 100)
    assert words == [word.text for word in explanations[LONG].prediction.words]


def test_nothing_is_wider_than_the_phone(opened):
    assert opened.evaluate("document.documentElement.scrollWidth") <= 380


@pytest.mark.parametrize(("width", "least"), [(1200, 500), (390, 350)])
def test_a_lone_panel_is_wide_and_a_cut_table_and_a_command_show_that_they_go_on(
    browser, make_config, tmp_path, width, least
):
    claim_workdir(tmp_path / "run", make_config().to_dict())
    run = read_contents(tmp_path / "run", None)
    lone = sections.lengths(np.array([3, 4]), "test", 16)
    rows = sections.Table("wide", ("a column " * 30,), [["cell"]])
    wide = sections.Section(
        "wide", "wide", notes=[sections.Note("", "python " + "--a=b " * 50)], tables=[rows]
    )
    (tmp_path / "page.html").write_text(
        page.render(run, [lone, wide], page.Note("none")), encoding="utf-8"
    )
    tab = browser.new_page(viewport={"width": width, "height": 800})
    tab.goto((tmp_path / "page.html").as_uri())
    assert least < tab.locator("figure svg").bounding_box()["width"] < width
    assert tab.eval_on_selector(
        ".scroll", "one => getComputedStyle(one).backgroundAttachment"
    ).startswith("local")
    assert tab.eval_on_selector("pre", "one => one.scrollWidth <= one.clientWidth")
    tab.close()


def test_filters_choose_examples(opened, explanations):
    total = len(explanations)
    right = sum(row % 2 == row % 3 for row in range(total))
    opened.select_option("#by-answer", "right")
    assert status(opened).startswith(f"{right} of {total} examples")
    assert opened.locator("#examples .wrong").count() == 0
    opened.select_option("#by-answer", "")
    opened.select_option("#by-label", "2")
    assert status(opened).startswith(
        f"{sum(row % 3 == 2 for row in range(total))} of {total} examples"
    )
    opened.select_option("#by-label", "")
    opened.fill("#kept-from", "80")
    opened.fill("#kept-to", "90")
    kept = [
        round(100 * float(sum(one.prediction.num_tokens)) / NUM_LAYERS / len(one.tokens))
        for one in explanations
    ]
    assert status(opened).startswith(
        f"{sum(80 <= share <= 90 for share in kept)} of {total} examples"
    )
    opened.fill("#kept-from", "100")
    assert (
        status(opened).endswith("no example is like that")
        and opened.locator("#examples li").count() == 0
    )


def test_pages_follow_one_another_over_chunks(opened, explanations):
    assert opened.is_disabled("#previous")
    for _ in range(13):
        opened.click("#next")
    assert status(opened) == f"{len(explanations)} of {len(explanations)} examples: 131 to 140"
    assert shown(opened)[0] == [word.text for word in explanations[130].prediction.words]
    opened.click("#previous")  # half of it in the chunk before
    assert status(opened).endswith("121 to 130")
    assert shown(opened) == [
        [word.text for word in one.prediction.words] for one in explanations[120:130]
    ]


@pytest.mark.parametrize("layer", range(NUM_LAYERS + 1))
def test_the_slider_fades_words_that_a_layer_did_not_run_on(opened, explanations, layer):
    opened.fill("#layer", str(layer))
    found = opened.eval_on_selector_all(
        "#examples li:first-child .word",
        "words => words.map(word => word.classList.contains('gone'))",
    )
    assert found == (explanations[0].layers_W < layer).tolist()
    assert opened.inner_text("#layer-told") == (
        f"words that layer {layer} of 4 ran on" if layer else "all words"
    )


def expected_tip(explanation, word):
    ran = explanation.layers_W[word]
    return "stayed through all 4 layers" if ran == NUM_LAYERS else f"left at layer {ran + 1} of 4"


def test_a_word_tells_its_scores_under_the_pointer_and_when_it_is_tapped(opened, explanations):
    words = opened.locator("#examples li:first-child .word")
    for index in range(4):
        words.nth(index).hover()
        told = opened.inner_text("#tip")
        assert told.startswith(expected_tip(explanations[0], index))
        first = float(told.split("layer 1: ")[1].split(",")[0])
        assert first == pytest.approx(explanations[0].score_NW[0, index], rel=0.15, abs=1e-4)
    opened.mouse.move(1, 1)
    assert opened.is_hidden("#tip")
    words.nth(2).click()
    assert opened.is_visible("#tip")
    opened.keyboard.press("Escape")
    assert opened.is_hidden("#tip")


def test_arrow_keys_step_through_words_in_reading_order(opened, explanations):
    for text, forward in ((0, "ArrowRight"), (2, "ArrowLeft")):
        opened.locator("#examples .text").nth(text).focus()
        for index in range(2):
            opened.keyboard.press(forward)
            word = explanations[text].prediction.words[index].text
            assert opened.inner_text(".word.here") == word
            assert opened.inner_text("#tip").startswith(expected_tip(explanations[text], index))
            assert opened.text_content("#spoken").startswith(f"{word}: ")
        box = opened.locator("#tip").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 380


def test_every_control_is_reached_with_the_keyboard(opened):
    reached = set()
    opened.focus("#by-answer")
    for _ in range(7):
        reached.add(opened.evaluate("document.activeElement.id"))
        opened.keyboard.press("Tab")
    assert {"by-answer", "by-label", "kept-from", "kept-to", "layer", "next"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_every_shade(browser, address, scheme):
    tab = browser.new_page(color_scheme=scheme)
    tab.goto(address)
    tab.wait_for_selector("#examples .word")
    contrasts = tab.evaluate(CONTRASTS)
    tab.close()
    assert len(contrasts) == NUM_LAYERS + 1 and min(contrasts) >= 4.5


# Of the words of the legend, by the formula of WCAG; a canvas turns any colour into bytes.
CONTRASTS = """() => {
  const context = document.createElement("canvas").getContext("2d");
  const luminance = (...layers) => {
    for (const color of layers) { context.fillStyle = color; context.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map(
      byte => byte / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = getComputedStyle(document.body).backgroundColor;
  return [...document.querySelectorAll("#legend .word")].map(word => {
    const style = getComputedStyle(word);
    const pair = [luminance(style.color), luminance(back, style.backgroundColor)];
    pair.sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  });
}"""


def test_the_opening_is_timed_to_the_first_text_and_to_the_end(browser, address, explanations):
    found = open_page(browser, address)
    assert found["examples"] == len(explanations)
    assert 0 < found["first_text_s"] <= found["load_s"] < 60
