"""The API server accepts every object of the chart."""

import json
from pathlib import Path

import pytest

from tests.cluster.conftest import Cluster
from tests.support.helm import CASES, render
from tests.support.programs import output, program

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_the_api_server_accepts_every_object(cluster: Cluster, path: Path, tmp_path: Path) -> None:
    """Custom resources are checked if the cluster has their definitions."""
    known = set(output(program("kubectl"), "api-versions").split())
    unknown = set()
    for number, found in enumerate(render(path).objects):
        if found["apiVersion"] not in known:
            unknown.add(found["kind"])
            continue
        found["metadata"]["namespace"] = cluster.namespace
        (file := tmp_path / f"{number}.json").write_text(json.dumps(found))
        cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(file))
    if unknown:
        pytest.skip(f"accepted, except for kinds that the cluster does not know: {unknown}")
