"""The page of the demo: its answers, and the page itself in a browser without a network."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from browser_helpers import chromium, errors_of
from PIL import Image

from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import PROMPTS
from ldf_utils.data.sets import RENDERED
from ldf_utils.demo.__main__ import PAGE, serve
from ldf_utils.demo.speaker import Speaker
from ldf_utils.fusion.rules import average
from ldf_utils.fusion.sentence import SUGGESTIONS, sentence_directions
from ldf_utils.networks.sentence import SentenceFusionNetwork

pytest.importorskip("cv2", reason="aligning needs OpenCV: the extra cameras")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def address():
    server = serve(average, port=0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def post(address, **values):
    request = urllib.request.Request(
        f"{address}fuse", json.dumps(values).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def picture(tmp_path, url, name):
    path = tmp_path / name
    path.write_bytes(base64.b64decode(url.split(",")[1]))
    return np.asarray(Image.open(path))


def test_the_sample_is_aligned_and_fused(address, tmp_path):
    status, values = post(address, sample=True, align=True)
    assert status == 200 and values["message"].startswith("Alignment: ")
    fused = picture(tmp_path, values["fused"], "fused.png")
    visible = picture(tmp_path, values["visible"], "visible.png")
    assert fused.shape == visible.shape and not np.array_equal(fused, visible)


def test_uploads_are_fused_and_bad_ones_named(address, tmp_path):
    folder = RENDERED / "parallax"
    sent = {}
    for name, part in (("infrared", "ir"), ("visible", "vi")):
        file = sorted((folder / part).iterdir())[0]
        data = base64.b64encode(file.read_bytes()).decode()
        sent[name] = {"name": file.name, "data": data}
    status, values = post(address, **sent, align=False)
    assert status == 200 and values["message"] == "Fused as they are."
    sent["infrared"] = {"name": "../../x.png", "data": base64.b64encode(b"no picture").decode()}
    status, values = post(address, **sent, align=False)
    assert status == 400 and "infrared.png" in values["error"]
    assert post(address, align=True)[0] == 400


def test_other_requests_are_refused(address):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}etc/passwd")
    request = urllib.request.Request(f"{address}fuse", b"{}", {"Content-Type": "text/plain"})
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request)


def test_the_page_loads_nothing_from_elsewhere():
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", PAGE.read_text("utf-8"))


@pytest.fixture(scope="module")
def speaking():
    """The page with a network that takes sentences and is moved by them."""
    clip = load_clip("mini")
    torch.manual_seed(0)
    network = SentenceFusionNetwork(clip.dim).eval()
    torch.nn.init.normal_(network.words[-1].weight, std=0.3)
    network.remember(*sentence_directions(clip, PROMPTS.fused))
    server = serve(average, port=0, speaker=Speaker(network, clip))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_a_sentence_and_the_way_to_a_second_one(address, speaking):
    words = {"sample": True, "align": False, "sentence": "a dark image"}
    first, second, between, plain = (
        post(speaking, **values)[1]["fused"]
        for values in (
            words,
            words | {"sentence": "a bright image"},
            words | {"second": "a bright image", "share": 0.5},
            words | {"sentence": " "},
        )
    )
    assert len({first, second, between, plain}) == 4
    assert post(speaking, **words, second="a bright image", share=1.0)[1]["fused"] == second
    assert post(address, sample=True, align=False)[1]["fused"] == plain
    status, values = post(speaking, **words | {"sentence": "a zyzzyva image"})
    assert status == 400 and "zyzzyva" in values["error"]
    assert post(speaking, **words, second="a bright image", share=2)[0] == 400


def test_suggestions_are_there_only_for_a_network_that_takes_sentences(address, speaking):
    for page, expected in ((address, []), (speaking, list(SUGGESTIONS))):
        with urllib.request.urlopen(f"{page}sentences") as answer:
            assert json.load(answer) == {"suggestions": expected}


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs a browser: chromium or google-chrome")
def test_the_page_fuses_the_sample_in_a_browser(address, tmp_path):
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    options += ["--virtual-time-budget=60000", "--dump-dom", f"{address}#sample"]
    page = subprocess.run([BROWSER, *options], capture_output=True, timeout=300, check=True)
    text = page.stdout.decode()
    assert re.search(r'id="message"[^>]*>Alignment: ', text), text[-3000:]
    assert re.search(r'id="right"[^>]*src="data:image/png;base64,', text)
    assert re.search(r'id="left"[^>]*clip-path: inset\(0px 50% 0px 0px\)', text)
    assert re.search(r'id="download"[^>]*href="data:image/png;base64,', text)


@pytest.mark.slow
def test_own_pictures_are_fused_when_the_button_follows_a_sentence(speaking):
    folder = RENDERED / "parallax"
    with chromium() as browser:
        page = browser.new_page(bypass_csp=True)  # for wait_for_function
        errors, asked = errors_of(page), []
        page.on("request", lambda r: asked.append(r.post_data) if r.post_data else None)
        page.goto(speaking)
        page.locator("#words").wait_for()
        page.uncheck("#align")
        page.click("#sample")
        page.wait_for_function("last === true && running === null")
        for name, part in (("infrared", "ir"), ("visible", "vi")):
            page.set_input_files(f"#{name}", sorted((folder / part).iterdir())[-1])
        page.locator("#sentence").press_sequentially("a dark image")
        page.click("#fuse")  # leaving the field asks for the sample with the sentence first
        page.fill("#second", "a bright image")
        page.locator("#second").blur()  # the words that are there now, not other pictures
        page.wait_for_function("last === false && running === null")
        assert page.evaluate("document.getElementById('right').src === result.fused")
        assert page.evaluate("document.getElementById('message').textContent") == (
            "Fused as they are."
        )
        page.close()
    first, second, *_, final = map(json.loads, asked)
    assert first["sample"] and not first["sentence"]
    assert second["sample"] and second["sentence"] == "a dark image"
    assert not final["sample"] and final["infrared"]["name"].startswith("0007")
    assert (final["sentence"], final["second"]) == ("a dark image", "a bright image")
    assert not errors
