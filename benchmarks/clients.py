"""Those who pull: alike for every server, and as cheap as can be, so that the server is what is measured."""

from __future__ import annotations

import hashlib
import http.client
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.real.processes import program

_PIECE = 1 << 20


class Failed(Exception):
    """A client did not get the whole body."""


def pull(url: str, size: int, clients: int = 1) -> float:
    """Have so many clients pull a body at once and throw it away.

    @param size: of the body, in bytes.
    @return: seconds until the last of them has all of it.
    @raise Failed: if one of them has not.
    """
    command = [program("curl"), "--silent", "--noproxy", "*", "--output", "/dev/null"]
    command += ["--write-out", "%{http_code} %{size_download}", url]
    begun = time.monotonic()
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(clients)]
    said = [child.communicate()[0] for child in children]
    seconds = time.monotonic() - begun
    wrong = [line for line in said if line != f"200 {size}"]
    if wrong:
        raise Failed(f"{len(wrong)} of {clients} clients of {url} failed, the first with {wrong[0]!r}")
    return seconds


def pull_all(urls: Sequence[Sequence[str]], size: int) -> float:
    """Have one client for each of these lists pull all in it, one after another, and throw it away.

    @param size: of each body, in bytes.
    @return: seconds until the last client has the last body.
    @raise Failed: if one body was not whole.
    """
    command = [program("curl"), "--silent", "--noproxy", "*", "--write-out", "%{http_code} %{size_download}\n"]
    begun = time.monotonic()
    children = [
        subprocess.Popen(
            [*command, *(word for url in each for word in ("--output", "/dev/null", url))],
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in urls
    ]
    said = [line for child in children for line in child.communicate()[0].splitlines()]
    seconds = time.monotonic() - begun
    if said != [f"200 {size}"] * sum(map(len, urls)):
        raise Failed(f"not all bodies were whole: {sorted(set(said))}")
    return seconds


def first_answer(url: str, size: int) -> None:
    """Come back when there is a whole body of this size to be had, asking again as long as there is none.

    @raise Failed: if that takes a minute.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with opener.open(url, timeout=60) as answer:
                if len(answer.read()) == size:
                    return
        except (OSError, http.client.HTTPException):
            time.sleep(0.005)
    raise Failed(f"{url}: no answer for a minute")


def right_bodies(url: str, digest: str, clients: int) -> int:
    """Have so many clients pull a body at once and hash it; not for timing.

    @return: how many of them got the body whose sha256 digest this is.
    """
    with ThreadPoolExecutor(clients) as pool:
        return sum(found == digest for found in pool.map(_hash, [url] * clients))


def _hash(url: str) -> str:
    hasher = hashlib.sha256()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=300) as answer:
            while piece := answer.read(_PIECE):
                hasher.update(piece)
    except OSError as error:
        return str(error)
    return f"sha256:{hasher.hexdigest()}"
