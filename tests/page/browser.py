"""A headless Chromium of Debian's, and axe-core, which judges how well others can use a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

from selenium import webdriver

from tests.servers.process import program

SIZES = {"desk": (1280, 1100), "telephone": (390, 844)}


@contextmanager
def chromium(*, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """A browser; it ends with the block, whatever happens in it."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium")
    # Tests run as root in containers, where there is neither a sandbox nor much of /dev/shm.
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(program("chromedriver", "chromium-driver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_page_load_timeout(120)
        driver.set_script_timeout(120)
        theme = "dark" if dark else "light"
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": theme}]},
        )
        yield driver
    finally:
        driver.quit()


def show(driver: webdriver.Chrome, size: str) -> None:
    """Let the window be a desk's or a telephone's."""
    width, height = SIZES[size]
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "telephone"},
    )


def violations(driver: webdriver.Chrome) -> list[str]:
    """Return what axe-core finds wrong with the page: rule, what it means, where."""
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    driver.execute_script(axe)
    found: dict[str, Any] = driver.execute_async_script(
        "const done = arguments[arguments.length - 1]; axe.run(document).then(done);"
    )
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: "
        + "; ".join(node["html"][:200] for node in one["nodes"][:3])
        for one in found["violations"]
    ]


def first_paint(driver: webdriver.Chrome) -> float:
    """Return after how many milliseconds the page showed its first contents, by its own clock."""
    found: float = driver.execute_async_script(
        "const done = arguments[0]; const look = () => { const found = performance"
        ".getEntriesByName('first-contentful-paint')[0]; found ? done(found.startTime)"
        " : setTimeout(look, 20); }; look();"
    )
    return found


def screenshot(driver: webdriver.Chrome) -> bytes:
    """Return a picture of the whole page, as PNG."""
    import base64

    size = driver.execute_script(
        "return [innerWidth, Math.ceil(document.documentElement.getBoundingClientRect().height)]"
    )
    picture = driver.execute_cdp_cmd(
        "Page.captureScreenshot",
        {
            "format": "png",
            "captureBeyondViewport": True,
            "clip": {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1},
        },
    )
    return base64.b64decode(picture["data"])
