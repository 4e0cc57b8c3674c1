"""The report in a real browser; what it says where there is little to say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raytune_ahu.analysis.gallery import pictures, try_importance
from raytune_ahu.analysis.images import write_images
from raytune_ahu.analysis.report import write_report
from raytune_ahu.analysis.report_html import Section, duration, embedded, table
from raytune_ahu.analysis.report_table import table_data
from raytune_ahu.errors import OptionalDependencyError, SpecError, StorageError
from raytune_ahu.results import Results, load
from tests.analysis_tests.report_runs import ERROR, HOSTILE, STATES, runs
from tests.recorded_runs import record_run

__all__ = ["runs"]  # a fixture

BROWSER = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def pages(runs: dict[str, Results], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a run in each state."""
    folder = tmp_path_factory.mktemp("reports")
    return {s: write_report(runs[s], folder / f"{s}.html", intervals=False) for s in STATES}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page and waits until its figures are drawn; complaints and requests fail the test."""
    contexts = []
    heard: list[str] = []
    asked: list[str] = []

    def opened(path: Path, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-figures=drawn]")
        assert page.url == path.as_uri()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert heard == []
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked)
    assert sum(url.startswith("file:") for url in asked) == len(contexts)


def column(page: Any, key: str) -> list[str]:
    at = page.locator("#trials-table th").evaluate_all("ths => ths.map(th => th.dataset.key)")
    cells = page.locator(f"#trials-table tbody td:nth-child({at.index(key) + 1})")
    return [str(text) for text in cells.all_inner_texts()]


def colors(picture: bytes) -> int:
    from io import BytesIO

    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    return len(image.open(BytesIO(picture)).convert("RGB").getcolors(1 << 24))


@pytest.mark.parametrize("state", STATES)
def test_the_page_of_every_run_opens_without_complaint_or_network(
    pages: dict[str, Path], show: Callable[..., Any], state: str
) -> None:
    page = show(pages[state])

    for name in ("summary", "incumbent", "workers", "trials", "making"):
        assert page.locator(f"section#{name} h2").count() == 1
    assert page.locator("section .reading").count() == page.locator("section").count()
    assert page.title() == state


def test_every_figure_has_marks_and_colours(
    pages: dict[str, Path], show: Callable[..., Any]
) -> None:
    page = show(pages["usual"])
    figures = page.locator(".figure")

    assert figures.count() == 11
    for i in range(figures.count()):
        figure = figures.nth(i)
        assert figure.locator(".cartesianlayer path").count() > 3
        assert colors(figure.screenshot()) > 25


def test_a_run_with_nothing_in_it_says_so_in_each_section(
    pages: dict[str, Path], show: Callable[..., Any]
) -> None:
    page = show(pages["nothing"])

    assert page.locator(".figure").count() == 0
    assert "it has no trials yet" in page.locator("section#incumbent").inner_text()
    assert "There are no trials yet" in page.locator("section#trials").inner_text()


def test_nothing_in_a_run_becomes_html(pages: dict[str, Path], show: Callable[..., Any]) -> None:
    page = show(pages["odd"])

    assert HOSTILE not in pages["odd"].read_text(encoding="utf-8")
    assert page.title() == "odd"
    assert page.locator("main b, #trials-table script").count() == 0
    assert HOSTILE in column(page, "config/odd")
    assert "<b>bold" in page.locator("section#trials thead").inner_text()


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(
    pages: dict[str, Path], show: Callable[..., Any], runs: dict[str, Results]
) -> None:
    page = show(pages["usual"])
    best = runs["usual"].best().trial
    assert column(page, "trial")[0] == best

    page.click("#trials-table th[data-key='config/lr']")
    rising = [float(text) for text in column(page, "config/lr")]
    page.click("#trials-table th[data-key='config/lr']")
    falling = [float(text) for text in column(page, "config/lr")]

    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert len(rising) == 60


def test_absent_cells_are_last_whichever_way_one_sorts(
    pages: dict[str, Path], show: Callable[..., Any]
) -> None:
    page = show(pages["usual"])
    for _ in range(2):
        page.click("#trials-table th[data-key='config/momentum']")
        texts = column(page, "config/momentum")
        empty = texts.count("")
        assert empty
        assert texts[-empty:] == [""] * empty


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("adam", "`config/optimizer` == 'adam'"),
        ("lr<0.01 adam", "`config/lr` < 0.01 and `config/optimizer` == 'adam'"),
        ("model/layers>=3", "`config/model/layers` >= 3"),
        ("trial=trial_00007", "trial == 'trial_00007'"),
        ("optimizer!=adam", "`config/optimizer` != 'adam'"),
        ("no-such-word", "trial == ''"),
    ],
)
def test_the_filter_keeps_the_rows_that_pandas_keeps(
    pages: dict[str, Path],
    show: Callable[..., Any],
    runs: dict[str, Results],
    text: str,
    query: str,
) -> None:
    page = show(pages["usual"])
    page.fill("#trials-table input[type=search]", text)
    wanted = runs["usual"].trials.query(query)["trial"]

    assert sorted(column(page, "trial")) == sorted(wanted)


def test_the_status_filter_keeps_one_status(
    pages: dict[str, Path], show: Callable[..., Any], runs: dict[str, Results]
) -> None:
    page = show(pages["usual"])
    page.select_option("#trials-table select", "failed")

    assert len(column(page, "trial")) == (runs["usual"].trials["status"] == "failed").sum() > 0
    assert set(column(page, "status")) == {"failed"}


def test_a_row_opens_and_shows_the_whole_trial(
    pages: dict[str, Path], show: Callable[..., Any]
) -> None:
    page = show(pages["failed"])
    assert set(column(page, "error")) == {f"ValueError: {HOSTILE}"}
    page.click("#trials-table tbody tr:first-child")

    assert page.locator("#trials-table tr.details pre").inner_text() == ERROR
    page.click("#trials-table tbody tr:first-child")
    assert page.locator("#trials-table tr.details").count() == 0


def test_the_mouse_over_a_curve_shows_its_trial_and_draws_it_whole(
    pages: dict[str, Path], show: Callable[..., Any], runs: dict[str, Results]
) -> None:
    page = show(pages["usual"])
    best = runs["usual"].best()
    figure = page.locator("[data-figure=curves]")
    figure.scroll_into_view_if_needed()
    x, y = figure.evaluate(
        """(place, [epoch, value]) => {
          const box = place.getBoundingClientRect(), { xaxis, yaxis } = place._fullLayout;
          const x = xaxis._offset + xaxis.l2p(epoch), y = yaxis._offset + yaxis.l2p(value);
          return [box.x + x, box.y + y];
        }""",
        [best.resource, best.value],
    )
    page.mouse.move(x - 3, y - 3)
    page.mouse.move(x, y)
    page.wait_for_selector("[data-figure=curves] .hoverlayer text")
    drawn = figure.evaluate("place => place.data[place.layout.meta.follow].y.length")

    assert best.trial in page.locator("[data-figure=curves] .hoverlayer").inner_html()
    assert drawn == runs["usual"].trial(best.trial)["epochs_run"]


@pytest.mark.slow
def test_a_click_on_a_bar_finds_the_trial_in_the_table(
    pages: dict[str, Path], show: Callable[..., Any]
) -> None:
    page = show(pages["one"])
    page.locator("[data-figure=workers]").scroll_into_view_if_needed()
    box = page.locator("[data-figure=workers] .bars path").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("[data-figure=workers] .hoverlayer text")
    page.mouse.down()
    page.mouse.up()

    assert page.input_value("#trials-table input[type=search]") == "trial=trial_00000"


@pytest.mark.slow
def test_buttons_change_the_axis(pages: dict[str, Path], show: Callable[..., Any]) -> None:
    page = show(pages["usual"])
    section = page.locator("section#incumbent")
    section.get_by_role("button", name="epochs").click()

    assert "epochs of all trials" in section.locator(".xtitle").inner_html()
    assert section.locator(".updatemenu-container").count() == 0


@pytest.mark.slow
def test_the_dark_page_is_dark_and_a_button_makes_it_light(
    pages: dict[str, Path], show: Callable[..., Any]
) -> None:
    page = show(pages["one"], color_scheme="dark")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    ink = "() => getComputedStyle(document.querySelector('.xtick text')).fill"
    dark, letters = page.evaluate(ground), page.evaluate(ink)
    page.click("#theme")

    assert (dark, letters) == ("rgb(20, 24, 29)", "rgb(215, 220, 226)")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert page.evaluate(ink) == "rgb(36, 41, 47)"


@pytest.mark.parametrize("state", ["usual", pytest.param("odd", marks=pytest.mark.slow), "failed"])
def test_a_phone_scrolls_only_up_and_down(
    pages: dict[str, Path], show: Callable[..., Any], state: str
) -> None:
    page = show(pages[state], viewport=PHONE, is_mobile=True, has_touch=True)
    width = page.evaluate("() => document.documentElement.scrollWidth")

    assert width <= PHONE["width"]


@pytest.mark.slow
def test_paper_gets_every_trial_and_every_figure_on_white(
    pages: dict[str, Path], show: Callable[..., Any], runs: dict[str, Results]
) -> None:
    page = show(pages["usual"], color_scheme="dark")
    page.emulate_media(media="print")
    page.wait_for_selector("#print-table tbody tr")
    widths = page.locator(".figure .main-svg").evaluate_all("all => all.map(s => s.clientWidth)")

    assert page.locator("#print-table tbody tr").count() == len(runs["usual"].trials)
    assert max(widths) <= 690
    assert page.evaluate("() => document.documentElement.dataset.theme") == "light"
    page.emulate_media(media="screen")
    page.wait_for_selector("html[data-theme=dark]")
    assert page.locator("#print-table tbody tr").count() == 0


def test_many_trials_come_in_pages(tmp_path: Path, show: Callable[..., Any]) -> None:
    results = load(record_run(tmp_path / "many", num_samples=250, max_epochs=3))
    page = show(write_report(results, tmp_path / "many.html", intervals=False))
    assert len(column(page, "trial")) == 100

    page.get_by_role("button", name="next").click()
    page.get_by_role("button", name="next").click()

    assert len(column(page, "trial")) == 50
    assert page.get_by_role("button", name="next").is_disabled()
    assert "201 to 250 of 250" in page.locator("#trials-table .count").inner_text()


@pytest.mark.slow
def test_other_runs_are_compared(
    tmp_path: Path, runs: dict[str, Results], show: Callable[..., Any]
) -> None:
    path = write_report(
        runs["usual"],
        tmp_path / "two.html",
        others=[runs["promotion"]],
        extra=[Section("more", "More", "What else was found.", "<p>nothing</p>")],
        intervals=False,
    )
    section = show(path).locator("section#comparison")

    assert section.locator(".figure .main-svg").count() > 0
    assert "promotion" in section.locator("table").inner_text()


def test_runs_that_cannot_be_compared_say_why(tmp_path: Path, runs: dict[str, Results]) -> None:
    path = write_report(runs["one"], tmp_path / "a.html", others=[runs["nothing"]])

    assert "run &#x27;nothing&#x27; has no reports yet" in path.read_text(encoding="utf-8")


def test_the_page_holds_plotly_once_and_forbids_the_network(pages: dict[str, Path]) -> None:
    text = pages["usual"].read_text(encoding="utf-8")

    assert len(re.findall(r"\* plotly\.js v\d", text)) == 1
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", text)


def test_a_page_is_replaced_whole_and_leaves_nothing_behind(
    tmp_path: Path, runs: dict[str, Results]
) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(runs["nothing"], path)
    write_report(runs["nothing"], path, refresh_s=10)

    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert '<meta http-equiv="refresh" content="10">' in path.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_an_error_of_the_storage(
    tmp_path: Path, runs: dict[str, Results]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_report(runs["nothing"], tmp_path / "file" / "report.html")
    with pytest.raises(SpecError, match="refresh_s=0"):
        write_report(runs["nothing"], tmp_path / "report.html", refresh_s=0)


def test_the_table_has_all_hyperparameters_and_json_cells(runs: dict[str, Results]) -> None:
    for results in runs.values():
        made = table_data(results)
        keys = [c["key"] for c in made["columns"]]

        assert [k for k in keys if k.startswith("config/")] == [
            f"config/{name}" for name in results.parameters
        ]
        assert {len(cells) for cells in made["cells"]} == {len(results.trials)}
        assert all(
            cell is None or isinstance(cell, (str, int, float))
            for cells in made["cells"]
            for cell in cells
        )


def test_data_cannot_end_the_element_that_holds_them() -> None:
    assert embedded("x", ["</script><b>"]).count("<") == 2
    assert table(("<a>",), [("<b>", 1.5)]).count("&lt;") == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (59.0, "59 s"), (91.0, "1.5 min"), (7200.0, "2.0 h"), (2.6e5, "3.0 days")],
)
def test_times_are_written_in_a_unit_that_suits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.slow
def test_pictures_are_written_as_files(tmp_path: Path, runs: dict[str, Results]) -> None:
    pytest.importorskip("kaleido", reason="kaleido is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    results = runs["usual"]
    drawn = [p for p in pictures(results, SpecError("not wanted")) if p.name in ("rungs", "cost")]
    written = write_images([*drawn], tmp_path / "images", ("png", "svg", "pdf"))
    starts = {path.name: path.read_bytes()[:5] for path in written}

    assert {name: start for name, start in starts.items() if name.startswith("cost")} == {
        "cost.png": b"\x89PNG\r", "cost.svg": b"<svg ", "cost.pdf": b"%PDF-",
    }  # fmt: skip
    assert sorted(starts) == sorted(p.name for p in (tmp_path / "images").iterdir())
    assert colors((tmp_path / "images" / "rungs.png").read_bytes()) > 25


def test_without_kaleido_or_a_browser_the_way_to_get_them_is_told(
    tmp_path: Path, runs: dict[str, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [p for p in pictures(runs["one"], try_importance(runs["one"])) if p.name == "cost"]
    with pytest.raises(SpecError, match="'gif' must be one of png, svg, pdf"):
        write_images(drawn, tmp_path, ["gif"])  # type: ignore[list-item]
    monkeypatch.setattr("raytune_ahu.analysis.images._browser", lambda: None)
    with pytest.raises(OptionalDependencyError, match=r'pip install "raytune-ahu\[images\]"'):
        write_images(drawn, tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(OptionalDependencyError, match="need kaleido"):
        write_images(drawn, tmp_path)
