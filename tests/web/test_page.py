"""The live page in a real browser: what is drawn where, and what a person can do with it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium, opened, until
from local_feeds import StampSink
from page_scene import GROUP, HEIGHT, PLACES, WIDTH, live_scene, places, scene_frame

TEXT = "element => element.textContent"


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def scene():
    with live_scene() as running:
        yield running


def shown(page):
    """The position of the frame that is shown."""
    return int(page.get_attribute(".pane", "data-position"))


def wait_for(page, position, pane=".pane"):
    until(page, f"() => document.querySelector({pane!r})?.dataset.position === '{position}'")


def state(page, word):
    until(page, f"() => document.querySelector('#state').textContent === {word!r}")


def test_tracks_and_detections_are_drawn_where_they_are(browser, scene):
    scene.push(range(20))
    with opened(browser, scene.server.url) as page:
        wait_for(page, 19)
        state(page, "live")
        marks = page.eval_on_selector_all(
            "#panes g.track", "all => all.map(e => [e.dataset.id, Number(e.dataset.x), Number(e.dataset.y)])"
        )
        assert {number: (x, y) for number, x, y in marks} == {
            str(key): pytest.approx(place, abs=1e-3) for key, place in places(19).items()
        }
        assert page.locator("#panes g.detection.set-0").count() == len(PLACES)
        assert page.locator("#panes g.track.coasting").get_attribute("data-id") == "12"
        pane, circle = (
            page.locator(".pane").bounding_box(),
            page.locator('#panes g.track[data-id="12"] circle').bounding_box(),
        )
        scale = float(page.get_attribute(".pane", "data-scale"))
        assert scale == pytest.approx(min(pane["width"] / WIDTH, pane["height"] / HEIGHT), rel=0.01)
        x, y = places(19)[12]
        centre = circle["x"] + circle["width"] / 2, circle["y"] + circle["height"] / 2
        expected = (
            pane["x"] + pane["width"] / 2 + (x - (WIDTH - 1) / 2) * scale,
            (pane["y"] + pane["height"] / 2 + (y - (HEIGHT - 1) / 2) * scale),
        )
        assert centre == pytest.approx(expected, abs=1.0)  # screen px
        grey = """([x, y]) => {
            const canvas = document.querySelector(".pane canvas"), ratio = canvas.width / canvas.clientWidth;
            return canvas.getContext("2d").getImageData(x * ratio, y * ratio, 1, 1).data[0];
        }"""
        bright = (
            (round(x) - (WIDTH - 1) / 2) * scale + pane["width"] / 2,
            (y - (HEIGHT - 1) / 2) * scale + pane["height"] / 2,
        )
        assert page.evaluate(grey, bright) == 255
        assert page.evaluate(grey, (bright[0] + 4 * scale, bright[1])) < 90


def test_a_group_is_enlarged_and_its_ids_do_not_overlap(browser, scene):
    scene.push(range(5))
    with opened(browser, scene.server.url) as page:
        wait_for(page, 4)
        assert page.locator("#insets figure").count() == 2
        inset = page.locator('#insets figure[data-group="7"]')
        assert sorted(inset.locator("text[data-id]").evaluate_all("all => all.map(e => e.textContent)")) == ["7", "8", "9"]
        labels = inset.locator("text[data-id]").evaluate_all(
            "all => all.map(e => [e.getAttribute('text-anchor'), Number(e.getAttribute('y'))])"
        )
        for k, (side, row) in enumerate(labels):
            assert all(other != side or abs(row - at) >= 14 for other, at in labels[k + 1 :])  # screen px, letters of 12
        assert "G7: 3 targets" in inset.inner_text()
        label = page.locator('#panes text[data-group="7"]')
        assert label.evaluate(TEXT) == "G7 \u00b7 3"
        circles = inset.locator("g.track circle").evaluate_all("all => all.map(e => e.getBoundingClientRect().x)")
        assert max(circles) - min(circles) > 20  # 1.1 px, enlarged


def test_the_table_sorts_and_selects(browser, scene):
    scene.push(range(3))
    with opened(browser, scene.server.url) as page:
        wait_for(page, 2)
        ids = "() => [...document.querySelectorAll('#tracks tbody tr')].map(row => row.dataset.id).join()"
        until(page, f"() => ({ids})() === '7,8,9,12'")
        page.click('#tracks button[data-sort="x"]')
        page.click('#tracks button[data-sort="x"]')
        assert page.evaluate(ids) == "12,9,8,7"
        page.click('#tracks tr[data-id="9"]')
        assert page.locator('#panes g.track.selected[data-id="9"]').count() == 1
        assert page.get_attribute('#tracks tr[data-id="9"]', "aria-selected") == "true"
        assert "G7" in page.inner_text('#tracks tr[data-id="9"]')
        assert "coasting" in page.inner_text('#tracks tr[data-id="12"]')


def test_pause_step_and_the_slider_reach_kept_frames(browser, scene):
    scene.push(range(30))
    with opened(browser, scene.server.url) as page:
        wait_for(page, 29)
        until(page, "() => document.querySelector('#slider').max === '29'")
        page.keyboard.press("Space")
        state(page, "paused")
        page.keyboard.press("ArrowLeft")
        wait_for(page, 28)
        page.keyboard.press("Shift+ArrowLeft")
        wait_for(page, 18)
        page.locator("#slider").fill("5")
        wait_for(page, 5)
        assert float(page.get_attribute('#panes g.track[data-id="12"]', "data-x")) == pytest.approx(
            places(5)[12][0], abs=1e-3
        )
        scene.push(range(30, 33))
        assert shown(page) == 5
        page.keyboard.press("End")
        wait_for(page, 32)
        state(page, "live")


def test_another_sensor_can_be_chosen(browser, scene):
    scene.push(range(4), "north")
    scene.push(range(9), "south")
    with opened(browser, scene.server.url) as page:
        wait_for(page, 3)
        assert page.locator("#sensor option").all_inner_texts() == ["north", "south"]
        page.select_option("#sensor", "south")
        wait_for(page, 8)
        page.locator("body").press("[")
        wait_for(page, 3)


def test_the_page_goes_on_when_the_pipeline_is_started_again(browser, scene):
    scene.push(range(40))
    port = scene.server.port
    with opened(browser, scene.server.url) as page:
        wait_for(page, 39)
        scene.server.close()
        state(page, "disconnected")
        with live_scene(port=port) as again:
            again.push(range(3))
            wait_for(page, 2)
            state(page, "live")


def test_nothing_that_the_page_is_given_becomes_markup(browser, scene):
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    scene.push(range(2), hostile)
    scene.say(hostile + "</ol><script>document.title='owned'</script>")
    with opened(browser, scene.server.url) as page:
        wait_for(page, 1)
        until(page, "() => document.querySelector('#log li')")
        assert page.locator("#sensor option").all_inner_texts() == [hostile]
        assert hostile in page.inner_text("#log")
        assert page.locator("img, #log script").count() == 0
        assert page.title() == "irst-stream: test"
        assert page.evaluate("() => { try { document.body.innerHTML = 'x'; } catch { return 'refused'; } }") == "refused"


def test_a_preview_shows_the_same_place_in_fewer_bytes(browser, scene):
    scene.push(range(3))
    with opened(browser, scene.server.url) as page:
        wait_for(page, 2)
        page.select_option("#picture", "preview")
        scene.push(range(3, 5))
        wait_for(page, 4)
        assert page.get_attribute("#stage", "data-picture") == "jpeg"
        assert page.locator("#panes g.track").count() == len(PLACES)


def test_a_frame_without_results_says_so(browser, scene):
    for index in range(40):
        scene.history.write(scene_frame(index), index)
    with opened(browser, scene.server.url) as page:
        wait_for(page, 39)
        state(page, "no results")


class FullDisk(StampSink):
    """A sink that takes no more records."""

    alarm = "recording stopped: <disk> full"


def test_alarms_counts_and_plots_are_shown(browser):
    with live_scene(sinks={"out.mcap": FullDisk()}) as scene:
        scene.push(range(60))
        with opened(browser, scene.server.url) as page:
            wait_for(page, 59)
            until(page, "() => !document.querySelector('#alarms').hidden")
            assert page.inner_text("#alarms") == "out.mcap: recording stopped: <disk> full"
            assert "recording stopped: <disk> full" in page.inner_text("#counts")
            assert page.inner_text('b[data-plot="detections"]') == "4 a frame (most 4)"
            assert page.inner_text('b[data-plot="latency"]') == "0.0 ms (most 0.0)"
            drawn = """() => {
                const canvas = document.querySelectorAll("#plots canvas")[1];
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return data.some((value, k) => k % 4 === 3 && value > 0);
            }"""
            assert page.evaluate(drawn)


def test_the_token_is_asked_for_and_remembered(browser, tmp_path):
    with live_scene(token_file=str(tmp_path / "token")) as scene:
        scene.push(range(2))
        token = (tmp_path / "token").read_text().strip()
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
        with opened(browser, scene.server.url) as page:
            page.locator("#token").fill("wrong")
            page.keyboard.press("Enter")
            until(page, "() => document.querySelector('#ask-token').open")
            page.locator("#token").fill(token)
            page.keyboard.press("Enter")
            wait_for(page, 1)
        with opened(browser, f"{scene.server.url}#token={token}") as page:
            wait_for(page, 1)
            assert token not in page.url


def test_a_narrow_window_has_no_sideways_scrolling(browser, scene):
    scene.push(range(3))
    with opened(browser, scene.server.url, width=390, height=800) as page:
        wait_for(page, 2)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_zoom_and_pan_keep_marks_on_their_pixels(browser, scene):
    scene.push(range(3))
    with opened(browser, scene.server.url) as page:
        wait_for(page, 2)
        before = float(page.get_attribute(".pane", "data-scale"))
        box = page.locator(".pane").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
        page.mouse.wheel(0, -800)
        until(page, f"() => Number(document.querySelector('.pane').dataset.scale) > {2 * before}")
        scale = float(page.get_attribute(".pane", "data-scale"))
        centres = page.eval_on_selector_all("#panes g.track circle", "all => all.map(e => Number(e.getAttribute('cx')))")
        xs = [x for x, _ in places(2).values()]
        assert centres[0] - centres[2] == pytest.approx((xs[0] - xs[2]) * scale, abs=0.1)
        assert len(centres) == len(GROUP) + 1
        page.keyboard.press("0")
        until(page, f"() => Number(document.querySelector('.pane').dataset.scale) === {before}")


OFFLINE = """
import sys
sys.path.insert(0, {tests!r})
from browser import chromium, opened, until
from page_scene import live_scene
with chromium() as browser, live_scene() as scene:
    scene.push(range(3))
    with opened(browser, scene.server.url) as page:
        until(page, "() => document.querySelector('.pane')?.dataset.position === '2'")
        print("shown offline")
"""


@pytest.mark.usefixtures("browser")  # skips where there is none
def test_the_page_needs_no_network_but_loopback(tmp_path):
    """In a network namespace of its own, where nothing else is to be reached."""
    script = tmp_path / "offline.py"
    script.write_text(OFFLINE.format(tests=str(Path(__file__).parents[1])))
    inside = f"ip link set lo up && exec {sys.executable} {script}"
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("needs unshare and ip")
    if subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode:
        pytest.skip("may not make a network namespace")
    done = subprocess.run(["unshare", "-n", "sh", "-c", inside], check=False, capture_output=True, text=True, timeout=60)
    assert done.stdout == "shown offline\n", done.stderr
