"""A real headless Chromium, driven by chromedriver over WebDriver's own HTTP interface."""

import base64
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or CHROMEDRIVER is None, reason="no chromium and chromedriver here (apt: chromium-driver)"
)


class Browser:
    """One window."""

    def __init__(self, session_url: str) -> None:
        self.session_url = session_url

    def open(self, file: Path) -> None:
        call(f"{self.session_url}/url", {"url": file.resolve().as_uri()})

    def run(self, script: str) -> Any:
        return call(f"{self.session_url}/execute/sync", {"script": script, "args": []})

    def errors(self) -> list[dict[str, Any]]:
        return list(call(f"{self.session_url}/se/log", {"type": "browser"}))

    def requested(self) -> list[str]:
        """Addresses of everything that the pages so far asked for."""
        entries = call(f"{self.session_url}/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def whole_page(self, file: Path, width: int) -> None:
        """A picture of the page from top to end."""
        height = self.run("return document.documentElement.scrollHeight")
        self.command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        file.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", {})["data"]))

    def print_pages(self) -> bytes:
        return base64.b64decode(call(f"{self.session_url}/print", {}))

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        return call(f"{self.session_url}/goog/cdp/execute", {"cmd": name, "params": parameters})


@contextmanager
def browser(width: int, height: int, mobile: bool = False) -> Iterator[Browser]:
    """A fresh window of that size in CSS pixels, closed in the end."""
    assert CHROMEDRIVER
    driver = subprocess.Popen([CHROMEDRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout
        found = (re.search(r"successfully on port (\d+)", line) for line in driver.stdout)
        port = next(match.group(1) for match in found if match)
        wanted = {"capabilities": {"alwaysMatch": capabilities(width, height, mobile)}}
        session = call(f"http://127.0.0.1:{port}/session", wanted)
        url = f"http://127.0.0.1:{port}/session/{session['sessionId']}"
        try:
            yield Browser(url)
        finally:
            urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=30).close()
    finally:
        driver.terminate()
        driver.wait()


def capabilities(width: int, height: int, mobile: bool) -> dict[str, Any]:
    flags = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", f"--window-size={width},{height}"]
    options: dict[str, Any] = {"binary": CHROMIUM, "args": flags + ["--no-sandbox"] * (os.geteuid() == 0)}
    if mobile:
        options["mobileEmulation"] = {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 1.0}}
    return {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}


def call(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["value"]
