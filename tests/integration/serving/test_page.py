"""The chat page in a real browser: what is written is shown as it is written, and sources open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.browser import BROWSER_ARGUMENTS, find_browser
from tests.support.chat_service import Chat
from tests.support.faults.llm_standin import Standin

pytest_plugins = ("tests.support.chat_service",)

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=BROWSER_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(locale="zh-CN", viewport={"width": 1200, "height": 800})
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    yield page
    context.close()
    assert wrong == []


def ask(page: Page, question: str) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.wait_for_selector(".theirs:last-child:not([aria-busy])")


def test_an_answer_streams_in_and_its_source_opens_highlighted(page: Page, chat: Chat) -> None:
    page.goto(chat.url)
    ask(page, "国内信用卡退款多久到账？")
    expect(page.locator(".theirs .body table")).to_contain_text("5–10 个工作日")
    page.locator(".chip").first.click()
    panel = page.locator("#source")
    expect(panel.locator("mark")).to_contain_text("国内信用卡")
    expect(panel).to_contain_text("docs/refunds.md")
    expect(panel).to_contain_text("资料版本 1")
    expect(panel.locator(".document")).to_contain_text("首次购买的套餐")
    expect(page.locator("#source-title")).to_be_focused()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.locator(".chip").first).to_be_focused()


def test_html_in_documents_and_answers_is_text(page: Page, chat_with_llm: Chat, standin: Standin) -> None:
    hostile = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1"> **粗** '
    link = "[点我](javascript:window.hacked=1) <a href='javascript:1'>x</a> [好](https://example.com/)"
    standin.does(pieces=[hostile, link, " [1]\n\n| a | <b>c</b> |\n|---|---|\n| <svg onload=window.hacked=1> | d |"])
    page.goto(chat_with_llm.url)
    ask(page, "页面标签 script 特殊字符怎么显示")
    body = page.locator(".theirs .body")
    expect(body).to_contain_text("<script>window.hacked = 1</script><img src=x")
    expect(body.locator("strong").first).to_have_text("粗")
    assert body.locator("script, img, svg, b").count() == 0
    assert body.locator("a").evaluate_all("links => links.map(link => link.href)") == ["https://example.com/"]
    page.locator("button.mark").first.click()
    source = page.locator("#source mark")
    expect(source).to_contain_text("<script>window.hacked = true</script>")
    assert source.locator("*").count() == 0
    assert page.evaluate("window.hacked") is None
    standin.does()


def test_the_page_speaks_the_browser_s_language_and_switches(browser: Browser, chat: Chat) -> None:
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(chat.url)
    expect(page.locator("#welcome h2")).to_have_text("Hello, how can I help?")
    page.click("#language")
    expect(page.locator("#welcome h2")).to_have_text("您好，想了解什么？")
    page.reload()
    expect(page.locator("#welcome h2")).to_have_text("您好，想了解什么？")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    context.close()


def test_trouble_is_told_in_plain_words_and_can_be_tried_again(page: Page, chat: Chat) -> None:
    page.goto(chat.url)
    page.context.set_offline(True)
    ask(page, "怎么申请退款？")
    expect(page.locator(".theirs .problem")).to_contain_text("网络断开了")
    page.context.set_offline(False)
    page.get_by_role("button", name="重试").click()
    expect(page.locator(".theirs .body")).to_contain_text("申请退款")
    assert page.locator(".theirs").count() == 1
    refusal = {"status": 503, "headers": {"retry-after": "15"}, "body": "<html>proxy</html>"}
    page.route("**/api/chat", lambda route: route.fulfill(**refusal))  # type: ignore[arg-type]
    ask(page, "怎么申请退款？")
    expect(page.locator(".theirs:last-child .problem")).to_contain_text("资料库正在准备中")


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_is_wider_than_the_window(browser: Browser, chat: Chat, width: int) -> None:
    context = browser.new_context(locale="zh-CN", viewport={"width": width, "height": 700})
    page = context.new_page()
    page.goto(chat.url)
    ask(page, "国内信用卡退款多久到账？" + "很长" * 100)
    page.locator("#messages").evaluate("list => list.append('x'.repeat(500))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
