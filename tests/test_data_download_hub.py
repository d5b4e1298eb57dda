"""Tests of data_download for a file of a model hub: own cache of the hub, pinned revision."""

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
from download_server import Server, hurry
from huggingface_hub import constants

from data_download import load_registry, transfer
from data_download.__main__ import main

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = random.Random(7).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = "some/clip/resolve/" + COMMIT + "/model.safetensors"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A local server that answers as a model hub does, and an empty cache."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setenv("LDF_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hurry(monkeypatch)
    server = Server()
    server.files[FILE] = CONTENT
    server.files[f"some/clip/{COMMIT}/model.safetensors"] = CONTENT
    server.headers = {"ETag": f'"{DIGEST}"', "X-Repo-Commit": COMMIT}
    server.registry = tmp_path / "sets.toml"
    server.registry.write_text(f"""
[sets.clip]
kind = "hub"
title = "a made-up model"
base = "{server.url}"
source = "some/clip"
commit = "{COMMIT}"
file = "model.safetensors"
bytes = {len(CONTENT)}
hash = "sha256:{DIGEST}"
license = "CC0"
homepage = "about:blank"
""")
    yield server
    server.close()


def run(hub, command, *rest):
    return main([command, "--registry", str(hub.registry), *rest])


def cached(revision=None):
    found = huggingface_hub.try_to_load_from_cache(
        "some/clip", "model.safetensors", cache_dir=constants.HF_HUB_CACHE, revision=revision
    )
    return Path(found).read_bytes() if isinstance(found, str) else None


def test_the_registry_names_the_repository_that_open_clip_asks():
    import open_clip  # takes seconds

    dataset = load_registry()["clip-vit-b-32"]
    config = open_clip.get_pretrained_cfg("ViT-B-32-quickgelu", "openai")
    assert dataset.source == config["hf_hub"].strip("/")


@pytest.mark.parametrize("mirror", [False, True])
def test_get_fills_the_cache_so_that_main_is_found_offline(hub, mirror, capsys):
    mirror = ["--mirror", hub.url] if mirror else []
    assert run(hub, "get", "clip", *mirror) == 0
    assert cached(COMMIT) == CONTENT
    assert cached() == CONTENT  # as open_clip asks, without a revision
    local = huggingface_hub.hf_hub_download(
        "some/clip", "model.safetensors", cache_dir=constants.HF_HUB_CACHE, local_files_only=True
    )
    assert Path(local).read_bytes() == CONTENT
    hub.log.clear()
    assert run(hub, "verify", "clip") == 0
    assert run(hub, "get", "clip", "--offline") == 0
    assert hub.log == []
    assert run(hub, "list") == 0
    assert "complete" in capsys.readouterr().out


def test_the_command_that_follows_a_broken_one_goes_on(hub, monkeypatch):
    """What arrived of the file is not asked for again."""
    monkeypatch.setattr(transfer, "_WORTH_KEEPING", 1000)
    hub.faults[FILE] = ["truncated"]
    assert run(hub, "get", "clip", "--retries", "0") == 1
    assert cached(COMMIT) is None
    assert hub.ranges == []
    assert run(hub, "get", "clip") == 0
    assert cached(COMMIT) == CONTENT
    [asked] = hub.ranges
    assert 100_000 < int(asked.removeprefix("bytes=").rstrip("-")) <= len(CONTENT) // 2
    assert not any(Path(constants.HF_HUB_CACHE).rglob("*.part"))


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_a_killed_run_goes_on_with_the_half_of_a_large_file(hub):
    content = random.Random(8).randbytes(4 << 20)
    digest = hashlib.sha256(content).hexdigest()
    hub.files[FILE] = content
    hub.faults[FILE] = ["stall"]
    text = hub.registry.read_text().replace(DIGEST, digest)
    hub.registry.write_text(text.replace(f"= {len(CONTENT)}", f"= {len(content)}"))
    process = subprocess.Popen(
        [sys.executable, "-m", "data_download", "get", "clip", "--registry", hub.registry],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"HF_HUB_CACHE": constants.HF_HUB_CACHE, "HF_HUB_OFFLINE": "0"},
    )
    try:
        assert hub.reached.wait(60)
        for _ in range(600):  # until it has written what has come
            parts = list(Path(constants.HF_HUB_CACHE).rglob("*.part"))
            if parts and parts[0].stat().st_size >= 3 << 19:
                break
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    hub.release.set()
    assert cached(COMMIT) is None
    assert run(hub, "get", "clip") == 0
    assert cached(COMMIT) == content
    [asked] = hub.ranges
    assert int(asked.removeprefix("bytes=").rstrip("-")) >= 3 << 19


@pytest.mark.parametrize("fault", ["wrong", "no ranges", 416], ids=str)
def test_a_half_file_that_cannot_be_gone_on_with_is_fetched_anew(hub, fault, monkeypatch):
    monkeypatch.setattr(transfer, "_WORTH_KEEPING", 1000)
    hub.faults[FILE] = ["truncated", fault]
    assert run(hub, "get", "clip", "--retries", "0") == 1
    if fault == "wrong":  # a second half of something else
        assert run(hub, "get", "clip", "--retries", "0") == 1
        assert not any(Path(constants.HF_HUB_CACHE).rglob("*.part"))
    assert run(hub, "get", "clip", "--retries", "1") == 0
    assert cached(COMMIT) == CONTENT


def test_wrong_content_is_not_kept(hub, capsys):
    hub.faults[FILE] = ["wrong", "wrong"]
    assert run(hub, "get", "clip") == 1
    said = capsys.readouterr().err
    assert f"expected sha256:{DIGEST}" in said
    assert "nothing of it was kept" in said
    assert cached(COMMIT) is None
    assert not any(Path(constants.HF_HUB_CACHE).rglob("blobs/*"))
    assert run(hub, "get", "clip") == 0
    assert cached(COMMIT) == CONTENT


def test_a_damaged_copy_is_named_and_replaced(hub, capsys):
    assert run(hub, "get", "clip") == 0
    found = huggingface_hub.try_to_load_from_cache(
        "some/clip", "model.safetensors", cache_dir=constants.HF_HUB_CACHE, revision=COMMIT
    )
    Path(found).write_bytes(CONTENT[:-1] + b"x")
    assert run(hub, "verify", "clip") == 1
    assert f"expected sha256:{DIGEST}" in capsys.readouterr().err
    assert run(hub, "get", "clip") == 0
    assert cached(COMMIT) == CONTENT


@pytest.mark.skipif(os.name == "nt", reason="the client makes no links on Windows")
def test_a_damaged_copy_of_the_client_goes_with_its_blob(hub):
    """The client keeps the content in blobs/ and a link to it in snapshots/."""
    local = huggingface_hub.hf_hub_download(
        "some/clip",
        "model.safetensors",
        revision=COMMIT,
        cache_dir=constants.HF_HUB_CACHE,
        endpoint=hub.url,
    )
    assert Path(local).is_symlink()
    assert run(hub, "verify", "clip") == 0
    blob = Path(local).resolve()
    blob.write_bytes(b"damaged")
    assert run(hub, "get", "clip") == 0
    assert Path(local).read_bytes() == CONTENT
    assert not blob.exists()
    assert huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE).repos
    assert run(hub, "remove", "clip") == 0
    assert cached(COMMIT) is None


def test_another_pin_is_left_alone_and_named(hub, capsys):
    reference = Path(constants.HF_HUB_CACHE) / "models--some--clip" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_text("f" * 40)
    assert run(hub, "get", "clip") == 0
    assert "f" * 40 in capsys.readouterr().out
    assert reference.read_text() == "f" * 40


def test_a_missing_file_and_a_missing_network_are_said_at_once(hub, capsys):
    del hub.files[FILE]
    assert run(hub, "get", "clip") == 1
    assert "no such file (404)" in capsys.readouterr().err
    hub.registry.write_text(hub.registry.read_text().replace(hub.url, "http://127.0.0.1:9"))
    assert run(hub, "get", "clip") == 1
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["option", "constant"])
def test_offline_asks_nobody(hub, how, monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "constant")
    assert run(hub, "get", "clip", *(["--offline"] if how == "option" else [])) == 1
    assert "run it once without" in capsys.readouterr().err
    assert hub.log == []


def test_dry_run_and_remove(hub, capsys):
    assert run(hub, "get", "clip", "--dry-run") == 0
    assert f"{hub.url}/{FILE}" in capsys.readouterr().out
    assert hub.log == []
    assert run(hub, "get", "clip") == 0
    assert run(hub, "remove", "clip", "--dry-run") == 0
    assert cached(COMMIT) == CONTENT
    assert run(hub, "remove", "clip") == 0
    assert cached(COMMIT) is None
    assert run(hub, "verify", "clip") == 1


def test_links_checks_the_size_of_the_file(hub, capsys):
    assert run(hub, "links") == 0
    assert capsys.readouterr().out.startswith("ok ")
    hub.files[FILE] = CONTENT[:-1]
    assert run(hub, "links") == 1
    assert f"expected {len(CONTENT)} bytes, found {len(CONTENT) - 1}" in capsys.readouterr().out
