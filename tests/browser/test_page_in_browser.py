"""The page in Debian's Chromium, from its file with the network off: what it draws, does on a key, never runs."""

import importlib.resources
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from page_run import DOT, HOSTILE, make_run, write_run
from publish_scripts import FIGURES
from watch import Watcher

CHROMIUM = "/usr/bin/chromium"
WIDTHS = {"desk": 1280, "tablet": 800, "phone": 390}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # containers run as root
        yield started
        started.close()


@pytest.fixture
def said() -> list[str]:
    """What the page has said to its console, its errors, and the addresses that it asked."""
    return []


@pytest.fixture
def opened(browser: Browser, results: Path, said: list[str], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page; what it has `said` fails the test. Parameters: width, colour scheme, part of the address."""
    width, scheme, place = getattr(request, "param", (1280, "light", ""))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: said.append(asked.url) if asked.url.startswith("http") else None)
    page.goto(f"{(results / 'index.html').as_uri()}{place}")
    yield page
    assert page.evaluate("window.hit") is None, "text of a model ran"
    assert said == []
    context.close()


def scroll(page: Page) -> None:
    """Through the whole page, so that everything that waits for it is drawn."""
    y = 0
    while y < page.evaluate("document.documentElement.scrollHeight"):
        page.evaluate(f"scrollTo({{top: {y}, behavior: 'instant'}})")
        page.wait_for_timeout(120)
        y += 600
    page.wait_for_timeout(500)


@pytest.mark.parametrize("opened", [(width, "light", "") for width in WIDTHS.values()], indirect=True, ids=WIDTHS)
def test_every_chart_is_drawn_and_nothing_is_wider_than_the_screen(opened, results):
    scroll(opened)
    panels = sum(
        len(json.loads((results / f"figures/{name}.json").read_text(encoding="utf-8"))["panels"]) for name in FIGURES
    )
    empty = "[...document.querySelectorAll('.chart')].filter((c) => !c.querySelector('.main-svg')).length"
    assert opened.evaluate(empty) == 0
    assert opened.locator(".figure .chart").count() == panels
    assert opened.locator("#forest .chart").count() == 3
    assert opened.locator("#graph .sankey-node").count() == len(DOT.split("label =")) - 2  # without `all`
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("opened", [(1280, "light", ""), (390, "dark", "")], indirect=True, ids=["light", "dark"])
def test_axe_finds_no_fault(opened):
    scroll(opened)
    opened.locator("#rollout .answer").first.wait_for()
    opened.evaluate((importlib.resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = opened.evaluate("axe.run(document, {exclude: [['.js-plotly-plot']]})")["violations"]
    assert [(fault["id"], [node["target"] for node in fault["nodes"]][:3]) for fault in found] == []


def test_seeds_on_and_off(opened):
    opened.locator("#figure_warmup").scroll_into_view_if_needed()
    lines = opened.locator("#figure_warmup .scatterlayer .js-line")
    expect(lines.first).to_be_visible()
    before = lines.count()
    opened.locator("#seeds").check()
    expect(lines).to_have_count(before + 2 * 3)  # a line for each of three seeds in both panels


def test_a_table_is_sorted_by_keyboard(opened):
    header = opened.locator("#claims thead th").nth(4)
    header.locator("button").focus()
    opened.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    cells = [text.replace(",", "") for text in opened.locator("#claims tbody tr td:nth-child(5)").all_inner_texts()]
    numbers = [int(text) for text in cells if text]
    assert numbers == sorted(numbers) and cells[len(numbers) :] == [""] * (len(cells) - len(numbers))
    opened.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    table = opened.locator("#table_main table")
    place = table.locator("th").all_inner_texts().index("t, seeds")
    table.locator("th button").nth(place).click()
    lows = [text.strip("[").split(",")[0] for text in table.locator(f"td:nth-child({place + 1})").all_inner_texts()]
    assert [float(low) for low in lows] == sorted(float(low) for low in lows)


def rollouts(page: Page) -> None:
    page.locator("#rollouts").scroll_into_view_if_needed()
    page.locator("#rollout .answer").first.wait_for()


def test_hostile_answers_are_shown_as_text(opened):
    rollouts(opened)
    for name, text in HOSTILE.items():
        if name in ("long", "bidi", "surrogate"):
            continue
        opened.locator("#rollout-list a", has_text=name).click()
        expect(opened.locator("#rollout h3")).to_contain_text(f"{name} <i>")
        assert opened.locator("#rollout > .text").text_content() == text
    opened.locator("#rollout-list a", has_text="bidi").click()
    expect(opened.locator("#rollout > .text")).to_have_text("a⟨U+202E⟩b⟨U+2066⟩c")
    opened.locator("#rollout-list a", has_text="style").click()  # its answers are one line of 200,000 digits
    expect(opened.locator("#rollout h3")).to_contain_text("style")
    assert HOSTILE["long"] in opened.locator(".answer .text").first.text_content()
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_next_and_previous_by_key_and_a_link_to_an_answer(opened, results):
    rollouts(opened)
    names = opened.locator("#rollout-list a").all_inner_texts()
    heading = opened.locator("#rollout h3")
    expect(heading).to_contain_text(names[0])
    opened.locator("h2#rollouts-title").click()
    for key, place in (("n", 1), ("n", 2), ("p", 1), ("p", 0), ("p", len(names) - 1)):
        opened.keyboard.press(key)
        expect(heading).to_contain_text(names[place])
    opened.locator("#rollout-search").fill("n")  # a letter in a field is a letter
    assert opened.locator("#rollout-search").input_value() == "n"
    link = opened.locator(".answer h4 a").nth(1).get_attribute("href")
    opened.goto(f"{(results / 'index.html').as_uri()}{link}")
    opened.reload()
    expect(opened.locator("#rollout h3")).to_contain_text(names[-1])
    expect(opened.locator(".answer:focus")).to_contain_text("DSRL @60")


@pytest.mark.parametrize("opened", [(1280, "light", "#rollouts/miniature/chain3/3")], indirect=True)
def test_a_link_to_a_question_shows_it(opened):
    expect(opened.locator("#rollout h3")).to_contain_text(list(HOSTILE)[3])
    opened.wait_for_timeout(300)
    assert 0 <= opened.evaluate("document.querySelector('#rollout').getBoundingClientRect().top") < 450


@pytest.mark.parametrize("opened", [(1280, "light", "#rollouts/miniature/chain3/99")], indirect=True)
def test_a_link_to_no_question_says_so(opened):
    expect(opened.locator("#rollout")).to_have_text("There is no question 100 in chain3: it has 8")


@pytest.mark.parametrize("opened", [(390, "light", "")], indirect=True)
def test_a_phone_shows_our_value_of_each_claim(opened):
    ours = opened.locator("#claim-transitions td").nth(1)
    box = ours.bounding_box()
    assert "×" in ours.inner_text() and box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_the_filter_by_outcomes_and_the_search(opened):
    rollouts(opened)
    count = opened.locator("#rollout-count")
    assert opened.locator("#first-policy").input_value() == "dsrl@60/11"  # right under DSRL and wrong under GRPO
    assert opened.locator("#second-policy").input_value() == "grpo@60/11"
    for select, value in (("first-policy", "grpo@60/11"), ("first-outcome", "right"), ("second-policy", "dsrl@60/11")):
        opened.locator(f"#{select}").select_option(value)
    expect(count).to_have_text("4 of 8 questions")  # GRPO is right on every second one
    opened.locator("#second-outcome").select_option("never")
    expect(count).to_have_text("4 of 8 questions")
    for outcome in ("right", "sometimes", "truncated"):
        opened.locator("#second-outcome").select_option(outcome)
        expect(count).to_have_text("0 of 8 questions")
    expect(opened.locator("#rollout")).to_have_text("No question fits.")
    opened.locator("#second-outcome").select_option("")
    opened.locator("#first-outcome").select_option("")
    opened.locator("#rollout-search").fill("HREF")
    expect(count).to_have_text("1 of 8 questions")
    expect(opened.locator("#rollout h3")).to_contain_text("(1 of 1)")  # the first that fits is shown


def test_thoughts_are_named_and_tokens_coloured(opened):
    rollouts(opened)
    assert opened.locator(".thought.reflection .tag").first.text_content() == "reflection: “wait”"
    token = opened.locator(".answer").nth(1).locator(".text > span[title]").first
    assert token.get_attribute("title") == "log P(y|x) -1.5"
    background = "getComputedStyle(document.querySelector('.thought.reflection')).backgroundColor"
    assert opened.evaluate(background) != "rgba(0, 0, 0, 0)"
    opened.locator('input[name="measure"][value="yx"]').check()
    assert opened.evaluate(background) == "rgba(0, 0, 0, 0)"  # colours are those of the tokens now
    assert token.get_attribute("class") == "t3"  # 1.5 nats: more than 0.05, 0.5 and 1
    opened.locator('input[name="measure"][value="difference"]').check()
    assert token.get_attribute("class") == "d2"  # −1.5 − (−3.0) = 1.5 nats: more than 0.1 and 1
    assert token.get_attribute("title") == "log P(y|x) -1.5, log P(y) -3"
    assert opened.locator("#measure-key span").all_inner_texts() == ["> 0.1", "> 1", "> 3"] * 2


def test_log_probs_of_a_token_without_a_pointer_to_hover(opened):
    rollouts(opened)
    text = opened.locator(".answer").nth(1).locator(".text")
    tokens = text.locator("[title]").all()
    reading, told = opened.locator(".reading"), lambda token: f"{json.dumps(token.text_content())}: log P(y|x) "
    expect(reading).to_be_hidden()
    text.focus()
    opened.keyboard.press("ArrowRight")
    expect(reading).to_have_text(told(tokens[0]) + "-1.5")
    opened.keyboard.press("ArrowRight")
    expect(reading).to_contain_text(told(tokens[1]))
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("ArrowLeft")  # from the first to the last
    expect(reading).to_contain_text(told(tokens[-1]))
    tokens[0].click()
    expect(reading).to_have_text(told(tokens[0]) + "-1.5")
    assert opened.locator(".here").count() == 1


def test_the_slider_shows_the_values_of_an_update(opened):
    opened.locator("#training").scroll_into_view_if_needed()
    row = opened.locator("#training-values tbody tr", has_text="GRPO").first
    expect(row).to_contain_text("0.802")
    opened.locator("#training-update").fill("37")
    assert row.locator("td").all_inner_texts()[:2] == ["30", "0.502"]  # the last validation before it
    opened.locator("#training-quantity").select_option(label="Entropy (nats per token)")
    chart, drawn = opened.locator("#training-chart"), "Chart: Entropy (nats per token). GRPO, PreRL, NSR-PreRL, DSRL"
    expect(chart).to_have_attribute("aria-label", drawn)
    bands = chart.locator(".scatterlayer .js-fill")
    expect(bands).to_have_count(4)
    opened.locator("#training-bands").uncheck()
    expect(bands).to_have_count(0)
    opened.locator("#training summary").click()
    opened.get_by_label("NSR-RL → GRPO").check()
    expect(chart).to_have_attribute("aria-label", f"{drawn}, NSR-RL → GRPO")


def test_a_missing_file_is_named(opened, results, said):
    rollouts(opened)
    file = results / "page/rollouts/miniature/chain3/00003.js"
    text = file.read_text()
    file.unlink()
    opened.locator("#rollout-list a").nth(3).click()
    expect(opened.locator("#rollout")).to_have_text(
        "page/rollouts/miniature/chain3/00003.js is missing: keep the folder page/ beside this file"
    )
    file.write_text(text)
    training = results / "page/training/miniature"
    training.rename(training.with_name("away"))
    opened.locator("#training-quantity").select_option(label="Prompt tokens")
    expect(opened.locator("#training-values")).to_contain_text("is missing: keep the folder page/ beside this file")
    training.with_name("away").rename(training)
    assert said == ["error: Failed to load resource: net::ERR_FILE_NOT_FOUND"] * 2
    said.clear()


def test_in_print_pictures_take_the_place_of_charts(opened):
    opened.emulate_media(media="print")
    assert opened.locator("img.printed").first.is_visible()
    assert not opened.locator("[data-figure]").first.is_visible()
    assert not opened.locator("nav").is_visible()
    claim = opened.locator("#claim-main_4b details")
    assert claim.get_attribute("open") is None
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert claim.get_attribute("open") is not None
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert claim.get_attribute("open") is None


def test_the_page_that_follows_a_run(browser, tmp_path):
    """A row and a chart for a run; its next update appears by itself; hostile answers are text."""
    run = write_run(tmp_path / "smoke/state", "dsrl", 2, 3)
    answers = [{"problem": "1+1", "text": HOSTILE["script"], "reward": 0.0}]
    (run / "last_answers.json").write_text(json.dumps({"update": 2, "answers": answers}))
    server = Watcher(tmp_path / "smoke", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    try:
        page.goto(server.address)
        expect(page.locator("#runs tr")).to_contain_text("2 of 3")
        expect(page.locator("#charts .main-svg").first).to_be_visible()
        expect(page.locator("#answers .text").nth(1)).to_have_text(HOSTILE["script"])
        write_run(tmp_path / "smoke/state", "dsrl", 3, 3)
        expect(page.locator("#runs tr")).to_contain_text("done")
        assert page.evaluate("window.hit") is None and said == []
    finally:
        page.close()
        server.shutdown()
        thread.join()
        server.server_close()
