"""The contact form of `examples/` installs and builds, and passes its tests in a real browser."""

import shutil
import subprocess
import sys
from pathlib import Path

from support.clock import WATCHDOG_SECONDS
from support.process import clean_environment
from support.programs import skip_or_fail

ROOT = Path(__file__).parents[2]
FORM = ROOT / "examples" / "contact-form"
# npm caches packages, so only the first run needs the registry.
INSTALL = ("ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")
LATER = """
type LaterError implements ApiError { code: ErrorCode! message: String! requestId: ID! }
extend union CreateContactResult = LaterError
"""


def test_every_outcome_is_shown_in_a_browser_and_another_one_does_not_compile(
    tmp_path: Path,
) -> None:
    npm = shutil.which("npm")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if npm is None or chromium is None:
        skip_or_fail("npm or chromium is not installed")
    folder = tmp_path / "examples" / FORM.name
    shutil.copytree(FORM, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    schema = Path(shutil.copy(ROOT / "schema.graphql", tmp_path))
    settings = {
        "CHROMIUM": chromium,
        "GATEWAY_COMMAND": f"'{sys.executable}' -m contact_gateway serve",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (npm, *arguments),
            cwd=folder,
            env=clean_environment() | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            # The form has two dozen tests, with processes of their own.
            timeout=3 * WATCHDOG_SECONDS,
            check=False,
        )

    installed = run(*INSTALL)
    if installed.returncode != 0:
        skip_or_fail(f"npm cannot install the contact form: {installed.stdout}")
    # It builds the form first.
    tested = run("test")
    assert tested.returncode == 0, tested.stdout

    schema.write_text(schema.read_text("utf-8") + LATER, "utf-8")
    compiled = run("run", "build")
    assert compiled.returncode != 0
    assert "LaterError" in compiled.stdout
    assert "does not satisfy the expected type 'never'" in compiled.stdout
