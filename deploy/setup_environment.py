"""Makes `.venv` with everything in it, from nothing but Python: what `make setup` runs.

Invariant: the stamp in `.venv` is written last and holds the hash of the lock, so a set-up that was cut off is taken up
again and one that is current costs nothing. Only names, versions and hashes are locked; where packages come from is
pip's own configuration, so any mirror will do. Uses the standard library alone, because nothing else is there yet.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "ready"
LOG = VENV / "setup.log"
OLDEST_PYTHON = (3, 11)
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
NO_NETWORK_SIGNS = (
    "Failed to establish a new connection",
    "NameResolutionError",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "ConnectTimeoutError",
    "Read timed out",
    "ProxyError",
)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def stop(text: str) -> None:
    say(text)
    raise SystemExit(4)


def wanted_stamp() -> str:
    digest = hashlib.sha256()
    for file in (LOCK, ROOT / "pyproject.toml"):
        digest.update(file.read_bytes())
    digest.update(f"{sys.version_info[:3]} {ROOT}".encode())
    return digest.hexdigest()


def use_a_new_enough_python() -> None:
    """Starts again under a newer Python when `python3` is too old and a newer one is on the path."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for minor in (13, 12, 11):
        found = shutil.which(f"python3.{minor}")
        if found:
            os.execv(found, [found, *sys.argv])
    version = ".".join(map(str, sys.version_info[:3]))
    stop(f"Python 3.11 or newer is needed, this is {version}. Install one, or name it: make setup PYTHON=python3.12")


def make_venv() -> None:
    if (BIN / "python").exists() and STAMP.with_suffix(".python").exists():
        if STAMP.with_suffix(".python").read_text() == sys.version:
            return
        say("Another Python than before: making .venv again.")
        shutil.rmtree(VENV)
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
    if made.returncode != 0:
        stop(
            "This Python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv). "
            f"It said: {(made.stdout + made.stderr).strip().splitlines()[-1]}"
        )
    STAMP.with_suffix(".python").write_text(sys.version)


def run_pip(arguments: "list[str]", title: str, total: int) -> None:
    """Runs pip, showing what it fetches; its whole output goes to the log."""
    command = [str(BIN / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--retries", "2", *arguments]
    fetched = 0
    started = time.monotonic()
    with LOG.open("a", encoding="utf-8") as log:
        pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        assert pip.stdout is not None
        output = []
        for line in pip.stdout:
            log.write(line)
            output.append(line)
            if line.startswith("Collecting "):
                fetched += 1
                show_progress(f"{title}: {fetched} of about {total}", started)
            elif line.startswith("Installing collected"):
                show_progress(f"{title}: unpacking", started)
    if sys.stderr.isatty():
        say("")
    if pip.wait() == 0:
        return
    text = "".join(output)
    if any(sign in text for sign in NO_NETWORK_SIGNS):
        stop(
            "No package index could be reached, and the first set-up needs one: check the network or the proxy "
            f"(pip's own settings are used, e.g. PIP_INDEX_URL), then run `make setup` again. Details: {LOG}"
        )
    last = next((line.strip() for line in reversed(output) if line.strip()), "nothing")
    stop(f"pip could not install the locked packages; its last words: {last}. Details: {LOG}")


def show_progress(text: str, started: float) -> None:
    seconds = int(time.monotonic() - started)
    if sys.stderr.isatty():
        print(f"\r\033[K{text} ({seconds} s)", end="", file=sys.stderr, flush=True)
    elif seconds >= show_progress.next_at:  # type: ignore[attr-defined]
        show_progress.next_at = seconds + 10  # type: ignore[attr-defined]
        say(f"{text} ({seconds} s)")


show_progress.next_at = 0  # type: ignore[attr-defined]


def main() -> None:
    use_a_new_enough_python()
    stamp = wanted_stamp()
    if STAMP.exists() and STAMP.read_text() == stamp and (BIN / "ehcp").exists():
        return
    started = time.monotonic()
    say("Setting up .venv (once; a minute or two, about 800 MB on disk).")
    make_venv()
    LOG.write_text("")
    total = LOCK.read_text().count("==")
    run_pip(["--require-hashes", "-r", str(LOCK)], "Packages", total)
    run_pip(["--no-deps", "--no-build-isolation", "--no-index", "-e", str(ROOT)], "ehcp", 1)
    STAMP.write_text(stamp)
    say(f"Ready in {time.monotonic() - started:.0f} s. Next: make up, or .venv/bin/ehcp --help")


if __name__ == "__main__":
    main()
