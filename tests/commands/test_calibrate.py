"""irst-stream calibrate, and what goes on from it: replay, run, inspect; reports, feeds, masks, wrong inputs."""

import re
import signal
import threading
from base64 import b64decode
from pathlib import Path

import cv2
import media_files as media
import numpy as np
import pytest
from local_feeds import free_port, send, sender, started, until, wait_for_exit
from synthetic_sensor import SHAPE, Sensor

from irst_stream import Detections
from irst_stream.config import read_config
from irst_stream.io import jsonl
from irst_stream.io.recording.recorder import Recorder
from irst_stream.io.recording.settings import RecordSettings
from irst_stream.propose.mask import read_mask

SENSOR = Sensor(text=True, targets=4)
FRAMES = 32


@pytest.fixture(scope="module")
def stack():
    return SENSOR.stack(FRAMES)


@pytest.fixture
def run(run, stack):
    """Runs a command in a folder with cam.npy; returns exit code, standard output and standard error."""
    np.save("cam.npy", stack)
    return run


@pytest.fixture
def refused(run):
    """Runs a command that must fail with one line; returns that line."""

    def refused(*words):
        code, _, err = run(*words)
        said = [line for line in err.splitlines() if not re.match(r"(read|receive|calibrate|replay|inspect): \d", line)]
        assert code == 2, err
        assert len(said) == 1, err
        return said[0]

    return refused


def pictures(page):
    """The pictures within an HTML page, decoded."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [cv2.imdecode(np.frombuffer(b64decode(one), np.uint8), cv2.IMREAD_COLOR) for one in found]


def test_calibrate_then_replay(run):
    code, out, err = run("calibrate", "cam.npy", "--rate", 40, "--output", "C.toml", "--report", "C.html")
    assert code == 0, err
    assert f"{FRAMES} of {SHAPE[1]} x {SHAPE[0]} px; rate 40 frames/s, by --rate" in out
    assert "masked      text of" in out
    config = read_config(Path("C.toml"), here=True)
    searched = read_mask(Path(config.propose.mask))
    assert searched.shape == SHAPE
    assert not searched[6:14, 8:40].any()
    assert searched[20:].all()
    page = Path("C.html").read_text()
    shown = pictures(page)
    assert len(shown) >= 8
    assert all(picture.std() > 5 for picture in shown)
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # nothing else is needed
    code, out, err = run("replay", "cam.npy", "--config", "C.toml", "--detections", "D.jsonl", "--tracks", "T.jsonl")
    assert code == 0, err
    assert f"{FRAMES} frames, {FRAMES - 4} answered" in out
    found = np.concatenate([line.xy for line in jsonl.read(Path("D.jsonl"), Detections)])
    assert len(found) == pytest.approx(SENSOR.targets * (FRAMES - 4), rel=0.25)
    assert found[:, 1].min() > 16  # none in the text


def test_the_report_as_png_and_without_spots(run):
    np.save("dark.npy", np.random.default_rng(0).normal(500, 5, (10, 70, 90)).astype(np.float32))
    code, out, err = run("calibrate", "dark.npy", "--output", "D.toml", "--report", "D.png")
    assert code == 0, err
    assert "warning     PSF: point-like spots: 0, too few" in out
    assert "warning     frame rate: not stated" in out
    assert cv2.imread("D.png").std() > 5
    assert "sigma_px = 0.8  # assumed" in Path("D.toml").read_text()


def test_a_folders_settings_may_have_its_name(run, stack):
    media.png_folder(Path("sky"), stack[:12])
    for _ in range(2):  # the second time over the first one's
        code, _, err = run("calibrate", "sky", "--output", "sky.toml", "--rate", 40)
        assert code == 0, err
    code, out, err = run("replay", "sky", "--config", "sky.toml", "--detections", "D.jsonl")
    assert code == 0, err
    assert "12 frames, 8 answered" in out


def test_too_few_frames_call_no_pattern_noise_over_time(run, stack):
    np.save("few.npy", stack[:3])
    code, out, err = run("calibrate", "few.npy", "--output", "F.toml")
    assert code == 0, err
    assert re.search(r"noise .* DN from pixel to pixel; too few frames in order for noise over time", out)
    written = Path("F.toml").read_text()
    assert "DN from pixel to pixel; too few frames in order to tell noise over time from pattern." in written


def test_replay_calibrates_by_itself_and_keeps_the_configuration(run, refused):
    code, out, err = run("replay", "cam.npy", "--calibrate", "--detections", "found.jsonl")
    assert code == 0, err
    assert "settings    found.calibrated.toml" in out
    assert read_config(Path("found.calibrated.toml")).propose.mask.endswith("found.calibrated.mask.png")
    assert f"{FRAMES - 4} answered" in out
    assert "--calibrate: needs --detections or --tracks" in refused("replay", "cam.npy", "--calibrate")
    told = refused("replay", "cam.npy", "--calibrate", "--config", "camera", "--detections", "x.jsonl")
    assert "--calibrate: writes a configuration of its own; leave out --config" in told


def test_inspect_says_what_it_sees_and_draws_it(run, refused):
    code, out, err = run("inspect", "cam.npy", "--report", "i.html")
    assert code == 0, err
    for words in (
        "noise       2",
        "DN of pattern that stays",
        "spots       ",
        "PSF         0.",
        "burnt in    text of",
    ):
        assert words in out, words
    assert len(pictures(Path("i.html").read_text())) >= 5
    np.save("few.npy", np.load("cam.npy")[:9])
    assert run("inspect", "few.npy", "--report", "i.png")[0] == 0
    assert cv2.imread("i.png").std() > 5
    media.png_folder(Path("patches"), np.zeros((4, 11, 11), np.uint8))
    assert "noise" not in run("inspect", "patches")[1]
    assert "--report: patches: no full frames" in refused("inspect", "patches", "--report", "p.png")
    assert "expected a name that ends in .html or .png" in refused("inspect", "cam.npy", "--report", "p.pdf")


def test_the_mere_extremes_of_noise_are_not_clipped(run):
    frames = np.random.default_rng(1).normal(2700, 9, (6, 70, 90)).astype(np.uint16)
    np.save("free.npy", frames)
    assert "clipped" not in run("inspect", "free.npy")[1]
    np.save("low.npy", np.maximum(frames, 2690))
    (line,) = [line for line in run("inspect", "low.npy")[1].splitlines() if "clipped" in line]
    assert re.fullmatch(r"clipped     1\d\.\d\d% of pixels at 2690 DN", line)


def test_pixels_without_a_measurement_are_left_out(run, refused, stack, caplog):
    holes = stack[:24].astype(np.float32)
    holes[:, :, 150:], holes[:, 40, 30], holes[3:9, 80, 80], holes[5, 60, 60] = np.nan, np.nan, np.nan, np.inf
    np.save("holes.npy", holes)
    code, _, err = run("calibrate", "holes.npy", "--output", "H.toml", "--report", "H.png")
    assert (code, "Warning" in err) == (0, False)
    assert read_config(Path("H.toml")).fit.sigma_px == pytest.approx(SENSOR.sigma, rel=0.1)
    assert "PSF         0." in run("inspect", "holes.npy", "--report", "i.png")[1]
    np.save("empty.npy", np.full((20, 70, 90), np.nan, np.float32))
    assert "empty.npy: no pixel holds a measurement" in refused("calibrate", "empty.npy", "--output", "E.toml")
    assert "range       no pixel is finite" in run("inspect", "empty.npy")[1]
    code, out, _ = run("replay", "empty.npy", "--config", "camera", "--detections", "empty.jsonl")
    assert (code, "events: 20 blank" in out) == (0, True)
    assert "frame 0 holds no measurement" in caplog.text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--output C.toml", "expected either PATH or --from ENDPOINT"),
        ("cam.npy --from tcp://127.0.0.1:1 --output C.toml", "expected either PATH or --from ENDPOINT"),
        ("cam.npy --seconds 3 --output C.toml", "--seconds: is for --from ENDPOINT"),
        ("cam.npy --sensor a --output C.toml", "--sensor: cam.npy is a"),
        ("cam.npy --output C.txt", "C.txt: expected a name that ends in .toml"),
        ("cam.npy --output no/C.toml", "cannot be written: no folder"),
        ("cam.npy --output C.toml --report C.svg", "--report: C.svg: expected a name that ends in .html or .png"),
        ("cam.npy --output C.toml --report cam.npy", "--report: cam.npy: expected a name"),
        ("none.npy --output C.toml", "none.npy: no such file or folder"),
        ("small.npy --output C.toml", "small.npy: frames of 20 x 20 px are patches"),
        ("cut.npy --output C.toml", "cut.npy"),
        ("--from nonsense --output C.toml", "--from: "),
        ("--from tcp://127.0.0.1:5555 --keys none.key_secret --output C.toml", "--server-key: missing"),
    ],
)
def test_wrong_inputs_give_one_clear_line(words, told, refused):
    np.save("small.npy", np.arange(2000, dtype=np.uint16).reshape(5, 20, 20))
    Path("cut.npy").write_bytes(Path("cam.npy").read_bytes()[:100])
    assert told in refused("calibrate", *words.split())
    assert not Path("C.toml").exists()


def test_a_damaged_source_is_calibrated_by_what_came_before_and_told(run, stack):
    media.png_folder(Path("cam"), stack)
    broken = sorted(Path("cam").iterdir())[20]
    broken.write_bytes(broken.read_bytes()[:200])
    code, out, err = run("calibrate", "cam", "--output", "C.toml")
    assert code == 2
    assert re.search(r"frames      \d+ of 160 x 128 px", out)
    assert broken.name in err.splitlines()[-1]
    assert read_config(Path("C.toml")).fit.sigma_px > 0


def test_too_few_frames_before_the_damage_tell_nothing(refused, stack):
    media.png_folder(Path("cam"), stack[:30])
    broken = sorted(Path("cam").iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:200])
    assert broken.name in refused("calibrate", "cam", "--output", "C.toml")
    assert not Path("C.toml").exists()


@pytest.mark.parametrize("value", [0, 7])
def test_frames_that_show_nothing_are_refused(run, refused, value):
    np.save("flat.npy", np.full((30, 70, 90), value, np.uint16))
    told = f"flat.npy: all pixels of all frames hold {value} DN; expected frames that show something"
    assert told in refused("calibrate", "flat.npy", "--output", "C.toml")
    assert f"clipped     all pixels hold {value} DN" in run("inspect", "flat.npy")[1]


def test_masks_that_do_not_fit_are_refused_before_anything_is_read(refused):
    cv2.imwrite("m.png", np.full((50, 60), 255, np.uint8))
    cases = {
        'mask = "m.png"': "is a mask for frames of 60 x 50 px, these have 160 x 128 px",
        'mask = "none.png"': "propose.mask: none.png: no such file",
        "exclude = [[[-9, -9], [999, -9], [999, 999], [-9, 999]]]": "leave nothing to search",
    }
    for text, told in cases.items():
        Path("C.toml").write_text(f"[propose]\n{text}\n")
        assert told in refused("replay", "cam.npy", "--config", "C.toml", "--detections", "D.jsonl")
        assert not Path("D.jsonl").exists()
    Path("C.toml").write_text('[propose]\nmask = "none.png"\n')
    assert "C.toml: propose.mask: " in refused("config", "check", "C.toml")


def test_a_recording_of_several_sensors_asks_for_one(run, refused):
    recorder = Recorder(RecordSettings("two.mcap", keep_free_mb=1.0))
    for one, other in zip(SENSOR.frames(20, name="left"), SENSOR.frames(20, seed=1, name="right"), strict=True):
        for frame in (one, other):
            recorder.write(frame, frame.stamp.time_ns)
    recorder.close()
    told = refused("calibrate", "two.mcap", "--output", "C.toml")
    assert told == "irst-stream: two.mcap: frames of several sensors, left, right; choose one: calibrate --sensor NAME"
    assert "no frames came of sensor up; there are left, right" in refused(
        "calibrate", "two.mcap", "--sensor", "up", "--output", "C.toml"
    )
    code, out, err = run("calibrate", "two.mcap", "--sensor", "right", "--output", "C.toml")
    assert code == 0, err
    assert "20 of 160 x 128 px; rate 40 frames/s, by stamps of 20 frames" in out


def feeding(socket, stop, every_s, *sensors):
    """Send the frames of sensors in turn, over and over, until told to stop."""
    frames = {sensor: list(SENSOR.frames(20, name=sensor)) for sensor in sensors}
    k = 0
    while not stop.is_set():
        for sensor in sensors:
            frame = frames[sensor][k % 20]
            send(socket, type(frame)(frame.stamp.__class__(sensor, 0, k, k * 25_000_000), frame.pixels, frame.full_scale))
        k += 1
        stop.wait(every_s)


@pytest.fixture
def feed():
    """A function that starts to send the frames of sensors to an endpoint, lossless."""
    stop, threads = threading.Event(), []

    def begin(endpoint, *sensors, every_s=0.03):
        def work():
            with sender(endpoint, SNDTIMEO=200) as socket:
                try:
                    feeding(socket, stop, every_s, *sensors)
                except Exception:  # nobody takes any more
                    stop.set()

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join(10)


def test_a_live_feed_is_calibrated_and_the_configuration_runs_on_it(run, feed):
    endpoint = free_port()
    feed(endpoint, "cam")
    words = ("--from", endpoint, "--bind", "--policy", "lossless", "--seconds", 60, "--frames", 20)
    code, out, err = run("calibrate", *words, "--output", "C.toml")
    assert code == 0, err
    assert "20 of 160 x 128 px; rate 40 frames/s, by stamps of 20 frames" in out
    config = read_config(Path("C.toml"), here=True)
    assert (config.receive[0].endpoint, config.receive[0].bind, config.policy) == (endpoint, True, "lossless")
    assert "irst-stream run THIS_FILE" in Path("C.toml").read_text()


def test_several_sensors_on_a_feed_ask_for_one(refused, feed):
    endpoint = free_port()
    feed(endpoint, "a", "b")
    words = ("--from", endpoint, "--bind", "--policy", "lossless", "--output", "C.toml")
    told = refused("calibrate", *words)
    assert re.fullmatch(rf"irst-stream: {endpoint}: frames of several sensors, a, b; choose one: .*--sensor NAME", told)


def test_a_silent_feed_is_told(refused):
    words = ("--from", free_port(), "--bind", "--seconds", 0.2, "--output", "C.toml")
    assert refused("calibrate", *words).endswith("no frames came")
    told = refused("calibrate", *(word for word in words if word != "--bind"))
    assert told.endswith("no frames came. Does the sensor connect too? Then add --bind")


@pytest.mark.usefixtures("run")
def test_ctrl_c_uses_what_has_come(feed):
    endpoint = free_port()
    words = ("--from", endpoint, "--bind", "--policy", "lossless", "--seconds", 600, "--output", "C.toml")
    with started("calibrate", *words) as child:
        feed(endpoint, "cam", every_s=0.2)
        until(lambda: re.search(r"receive: \d+ frames", child.output), "the first frames")
        child.send_signal(signal.SIGINT)
        wait_for_exit(child)
    assert re.search(r"frames      \d+ of 160 x 128 px; rate 40 frames/s", child.output)
    assert read_config(Path("C.toml")).fit.sigma_px == pytest.approx(SENSOR.sigma, rel=0.1)


def test_run_without_a_configuration_says_that_it_guesses(run, caplog):
    endpoint = free_port()
    assert run("run", "--from", endpoint, "--bind", "--seconds", 0.2)[0] == 0
    (told,) = (record.getMessage() for record in caplog.records if "guessing" in record.getMessage())
    assert told.startswith("no configuration; guessing, by camera")
    assert f"irst-stream calibrate --from {endpoint} --output C.toml" in told
