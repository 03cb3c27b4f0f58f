"""The search page when something is wrong: with the request, the way to the server, or the documents."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.integration.browser import RESULTS, Visit, error_of, hits


def test_what_the_server_refuses_is_told_in_its_words(visit: Visit) -> None:
    broken = '{"must":[{"key":"lines","match":{"value":1.5}}]}'
    page = visit.open(f"{RESULTS}&filter={broken}")
    alert = error_of(page)
    expect(alert).to_contain_text("Invalid input")
    expect(alert).to_contain_text("use range for numbers with a fraction")
    expect(alert.get_by_role("button")).to_have_count(0)  # to send the same again would not help
    expect(page.get_by_role("button", name="Remove filter lines: 1.5")).to_be_visible()
    visit.complained_of("422")


def test_a_collection_that_is_not_there_is_told(visit: Visit) -> None:
    page = visit.open("/?collection=nowhere&q=x")
    expect(page.get_by_role("alert").first).to_contain_text("Not found")
    expect(page.get_by_label("Collection")).to_have_value("nowhere")
    page.get_by_label("Collection").select_option("traps")
    expect(hits(page)).to_have_count(2)
    visit.complained_of("404")


def test_no_connection_no_answer_in_time_and_trying_again(visit: Visit) -> None:
    visit.page.clock.install()
    page = visit.open(RESULTS)
    expect(hits(page)).to_have_count(10)
    page.context.set_offline(True)
    page.get_by_role("searchbox").fill("copy a file")
    alert = error_of(page)
    expect(alert).to_contain_text("No connection")
    expect(hits(page)).to_have_count(0)
    page.context.set_offline(False)
    page.route("**/search", lambda route: None)  # never answers
    with page.expect_request("**/search"):
        page.get_by_role("button", name="Try again").click()
    page.clock.fast_forward(15_000)
    expect(alert).to_contain_text("did not respond within 15 seconds")
    page.unroute("**/search")
    page.get_by_role("button", name="Try again").click()
    expect(hits(page).first).to_contain_text("shutil.copy")
    expect(alert).to_have_count(0)
    visit.complained_of("ERR_INTERNET_DISCONNECTED")


def test_collections_that_cannot_be_listed_are_asked_for_again_and_a_search_made_meanwhile_stays(visit: Visit) -> None:
    waits, page = visit.open_without_collections("/?collection=traps"), visit.page
    page.get_by_role("searchbox").fill("way home")
    expect(hits(page).first).to_contain_text("The way home")
    waits.abort()
    alert = error_of(page)
    expect(alert).to_contain_text("No connection")
    page.unroute("**/v1/collections")
    page.get_by_role("button", name="Try again").click()
    expect(alert).to_have_count(0)
    expect(page.get_by_label("Collection")).to_have_value("traps")
    expect(hits(page).first).to_contain_text("The way home")
    visit.complained_of("ERR_FAILED")


def test_a_search_that_failed_while_the_page_started_is_made_again(visit: Visit) -> None:
    waits, page = visit.open_without_collections("/?collection=traps"), visit.page
    page.route("**/search", lambda route: route.abort())
    page.get_by_role("searchbox").fill("way home")
    expect(error_of(page)).to_contain_text("No connection")
    page.unroute("**/search")
    waits.continue_()
    expect(hits(page).first).to_contain_text("The way home")
    visit.complained_of("ERR_FAILED")


def test_nothing_found_offers_a_way_out(visit: Visit) -> None:
    page = visit.open("/?collection=python&q=xylophone&mode=sparse")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.get_by_role("button", name="Search by meaning too").click()
    expect(hits(page).first).to_be_visible()
    page.goto(f"{visit.origin}{RESULTS}&page=900")
    page.get_by_role("button", name="Go to the first page").click()
    expect(hits(page)).to_have_count(10)


def test_a_filter_of_a_link_that_cannot_be_read_is_shown(visit: Visit) -> None:
    page = visit.open(f"{RESULTS}&filter=%7Boops")
    expect(page.get_by_label("Qdrant filter")).to_have_value("{oops")
    expect(page.locator("#filter-error")).to_contain_text("This is not JSON")
    assert visit.searches() == []
    page.get_by_role("button", name="Search without the filter").click()
    expect(hits(page)).to_have_count(10)


def test_what_documents_contain_stays_text(visit: Visit) -> None:
    page = visit.open("/?collection=traps&q=zebra")
    hit = hits(page).filter(has_text="zebra").first
    expect(hit.get_by_role("heading")).to_have_text("<img src=x onerror=document.title='owned'> zebra")
    expect(hit.locator(".text")).to_contain_text("<script>")
    expect(hit.locator("img, script, i i, b")).to_have_count(0)
    expect(page.locator("a[href^=javascript]")).to_have_count(0)
    expect(hit.get_by_role("heading").get_by_role("link")).to_have_count(0)  # its url is javascript:
    hit.locator("button.chip").first.click()
    expect(page.locator("#active-filter")).to_contain_text("<i>key</i>: <img src=x")
    expect(hits(page)).to_have_count(1)
    assert page.title().startswith("zebra")
    # The second line of defence is up: an inline script does not run.
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.owned = 1'}))"
    )
    assert page.evaluate("window.owned") is None
    assert len(visit.complaints) == 1
    assert "Content Security Policy" in visit.complaints.pop()
