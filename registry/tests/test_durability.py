"""A killed server shows no partial content and goes on where it was (R65: images are stored and managed)."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from fuseml_oci.digests import digest_bytes, digest_file

DATA = os.urandom(8 << 20)
DIGEST = digest_bytes(DATA)


def slowly(stop):
    for first in range(0, len(DATA), 256 << 10):
        yield DATA[first:first + (256 << 10)]
        if first > len(DATA) // 2:
            stop.set()
            time.sleep(1)


def test_r65_kill_9_in_mid_upload_leaves_no_visible_part(process, tmp_path, http):
    with process(tmp_path) as (running, url):
        location = urljoin(url, http.post(f"{url}/a/b/blobs/uploads/").headers["Location"])
        half, ended = threading.Event(), []

        def upload():
            with pytest.raises(requests.RequestException):
                requests.put(location, params={"digest": DIGEST}, data=slowly(half), timeout=30)
            ended.append(True)

        thread = threading.Thread(target=upload)
        thread.start()
        assert half.wait(30)
        session, deadline = next((tmp_path / "uploads").iterdir()), time.monotonic() + 10
        while not (session / "data").stat().st_size:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(running.pid, signal.SIGKILL)
        running.wait(10)
        thread.join(30)
        assert ended
    http.close()
    assert not [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()]
    with process(tmp_path) as (_, url):
        assert http.head(f"{url}/a/b/blobs/{DIGEST}").status_code == 404
        location = urljoin(url, urlsplit(location).path)
        offset = int(http.get(location).headers["Range"].partition("-")[2]) + 1
        assert 1 < offset < len(DATA)
        rest = {"Content-Range": f"{offset}-{len(DATA) - 1}"}
        answer = http.put(location, params={"digest": DIGEST}, data=DATA[offset:], headers=rest)
        assert answer.status_code == 201
        assert http.get(f"{url}/a/b/blobs/{DIGEST}").content == DATA


def test_every_visible_blob_is_whole_whenever_the_server_is_killed(process, tmp_path):
    for delay in (0.02, 0.1, 0.3):
        with process(tmp_path) as (running, url):
            thread = threading.Thread(target=_push_many, args=(url,))
            thread.start()
            time.sleep(delay)
            os.kill(running.pid, signal.SIGKILL)
            running.wait(10)
            thread.join(30)
    for path in (p for p in (tmp_path / "blobs").rglob("*") if p.is_file()):
        assert digest_file(path)[0] == f"sha256:{path.name}"


def _push_many(url: str) -> None:
    try:
        for _ in range(200):
            data = os.urandom(200_000)
            requests.post(f"{url}/a/b/blobs/uploads/", params={"digest": digest_bytes(data)}, data=data, timeout=10)
    except requests.RequestException:
        pass


def test_leftovers_of_a_crash_are_cleared(serve, tmp_path: Path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "half").write_bytes(b"x")
    with serve(tmp_path):
        assert not list((tmp_path / "tmp").iterdir())
