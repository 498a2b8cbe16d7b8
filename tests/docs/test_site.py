"""The site of the documents can be built, and every link in it leads somewhere."""

import subprocess
import sys
from pathlib import Path

from tests.support.documents import ROOT


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"),
            *("-c", "docs", "-d", str(tmp_path / "doctrees"), ".", str(site)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (site / "index.html").exists()
    assert "Tutorial" in (site / "docs" / "README.html").read_text()
