"""The API server accepts every object of the chart."""

import json
from pathlib import Path
from typing import Any

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
        (file := tmp_path / f"{number}.json").write_text(json.dumps(_alone(found, cluster)))
        # A warning would be that of the Pod Security standard, or of a field that is going away.
        words = ("--dry-run=server", "--validate", "--warnings-as-errors")
        cluster.kubectl("apply", *words, "-f", str(file))
    if unknown:
        pytest.skip(f"accepted, except for kinds that the cluster does not know: {unknown}")


def _alone(found: dict[str, Any], cluster: Cluster) -> dict[str, Any]:
    """Return an object that can be checked without the others, in the namespace of the test.

    A pod needs its account and its classes; the template of a Job does not.
    """
    found["metadata"]["namespace"] = cluster.namespace
    if found["kind"] != "Pod":
        return found
    metadata = {"name": found["metadata"]["name"], "namespace": cluster.namespace}
    template = {"metadata": {"labels": found["metadata"]["labels"]}, "spec": found["spec"]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
    return job | {"spec": {"template": template}}
