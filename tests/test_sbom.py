"""The components of the image, and their known vulnerabilities."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import output

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "run.txt"


def test_the_bill_of_materials_names_all_that_the_image_installs_with_hashes(
    tmp_path: Path,
) -> None:
    file = tmp_path / "sbom.json"
    tool = (sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements")
    output(*tool, "--pyproject", str(ROOT / "pyproject.toml"), "-o", str(file), str(LOCK))
    bill = json.loads(file.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "tickbridge"
    locked = re.findall(r"^([\w.-]+)==([^ ]+)", LOCK.read_text(), re.MULTILINE)
    named = [(part["name"], part["version"]) for part in bill["components"]]
    assert sorted(named) == sorted(locked)
    for part in bill["components"]:
        assert any(reference.get("hashes") for reference in part["externalReferences"])


@pytest.mark.parametrize(
    ("code", "words", "ends_with"),
    [
        (0, "No known vulnerabilities found", 0),
        (1, "Found 1 known vulnerability in 1 package", 1),
        (1, "requests.exceptions.ConnectionError: nobody there", 0),
        (2, "pip-audit: error: unrecognized arguments", 1),
    ],
)
def test_an_advisory_fails_the_build_and_a_service_out_of_reach_does_not(
    tmp_path: Path, code: int, words: str, ends_with: int
) -> None:
    audit = tmp_path / "pip-audit"
    audit.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit {code}\n")
    audit.chmod(0o755)
    done = subprocess.run(
        [ROOT / ".ci" / "advisories", audit, LOCK], capture_output=True, text=True, check=False
    )
    assert done.returncode == ends_with
    assert ("NOT audited" in done.stdout) == (code == 1 and ends_with == 0)
