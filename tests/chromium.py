"""Chromium for the tests, or its kin: found here, else fetched.

``python tests/chromium.py`` sees to it that there is one: a Chromium, Chrome or Edge that is installed, else the one
that Playwright downloads, else Debian's package where we are root. If none of these starts, it says what to type and
exits with 1, before any test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import Browser, Error, Playwright, sync_playwright

# Containers often lack the rights for its sandbox and have little shared memory; only our own pages are opened.
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb")
COMMANDS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
)
PLACES = (  # where installers put one without a command for it
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    *(
        f"{os.environ.get(root, '')}/{program}"
        for program in ("Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe")
        for root in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
    ),
)
INSTALL = {  # the one command to type, by the program that it begins with
    "apt-get": "sudo apt-get install --yes chromium",
    "dnf": "sudo dnf install --assumeyes chromium",
    "pacman": "sudo pacman --sync --noconfirm chromium",
    "brew": "brew install --cask google-chrome",
    "winget": "winget install Google.Chrome",
}
PATIENCE = 600  # seconds that an installer may take


def main() -> int:
    """Get a browser if none is here; say which, or what to type. Return the exit status."""
    if program := found() or got():
        print(f"browser: {program}")
        return 0
    print(f"no browser for the tests of pages, and none could be fetched. {advice()}", file=sys.stderr)
    return 1


def found() -> str | None:
    """Return the first browser here that starts, None without one."""
    with sync_playwright() as playwright:
        return next((program for program in programs(playwright) if starts(playwright, program)), None)


def programs(playwright: Playwright) -> Iterator[str]:
    """Yield the browsers that seem to be here: installed ones, then Playwright's own."""
    yield from filter(None, map(shutil.which, COMMANDS))
    yield from (place for place in (*PLACES, playwright.chromium.executable_path) if Path(place).is_file())


def starts(playwright: Playwright, program: str) -> bool:
    """Whether a program is a browser that works here: some are stand-ins, or lack the system's libraries."""
    with suppress(Error):
        launched(playwright, program).close()
        return True
    return False


def launched(playwright: Playwright, program: str) -> Browser:
    """Start a browser without a window."""
    return playwright.chromium.launch(executable_path=program, args=ARGUMENTS)


def got() -> str | None:
    """Try each way to get a browser until one starts; return it, None when all fail."""
    for commands in ways():
        print(f"no browser is here: trying {' '.join(commands[-1])}", flush=True)
        if all(map(succeeds, commands)) and (program := found()):
            return program
    return None


def ways() -> list[list[list[str]]]:
    """Return the ways to get a browser, each as its commands."""
    download = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    debian = [
        ["apt-get", "update", "--quiet"],
        ["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "chromium"],
    ]
    root = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")
    return [download, debian] if root else [download]


def succeeds(command: list[str]) -> bool:
    """Run a command and return whether it did what it should; of a failure, one line is shown."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"  {error}")
        return False
    if done.returncode:
        print("  " + next((line for line in (done.stderr or done.stdout).splitlines() if "rror" in line), "it failed"))
    return done.returncode == 0


def advice() -> str:
    """Say which command gets a browser, and how to do without."""
    known = next((command for tool, command in INSTALL.items() if shutil.which(tool)), None)
    install = f"Type: {known}" if known else "Install Chromium, Chrome or Edge"
    return f"""{install}; then the same command again. (Without these tests: make test TESTS='-m "not browser"')"""


if __name__ == "__main__":
    sys.exit(main())
