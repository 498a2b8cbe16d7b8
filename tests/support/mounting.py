"""The volumes of a rendered pod on this machine, laid out as the kubelet does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.helm import Rendered

SECRET = "from-a-secret"


def lay_out(
    rendered: Rendered, folder: Path, secrets: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """Write all volumes; return each mount path of the container and the folder in its place.

    `secrets` has contents by key; other keys contain SECRET. Files are links into a hidden folder,
    which the kubelet replaces as a whole when they change.
    """
    volumes = {volume["name"]: volume for volume in rendered.pod["volumes"]}
    mounts: dict[str, Path] = {}
    for mount in rendered.container["volumeMounts"]:
        place = folder / mount["name"]
        # The volumes of claims that each pod has are not among those of the pod.
        files = _files(volumes.get(mount["name"], {}), rendered, secrets or {})
        _write(place, files)
        mounts[mount["mountPath"]] = place
    return mounts


def _files(
    volume: Mapping[str, Any], rendered: Rendered, secrets: Mapping[str, str]
) -> dict[str, str]:
    match volume:
        case {"configMap": {}}:
            return {"tickbridge.yaml": rendered.settings}
        case {"projected": {"sources": sources}}:
            items = [item for source in sources for item in source["secret"]["items"]]
        case {"secret": {"items": items}}:
            pass
        case _:
            items = []
    return {item["path"]: secrets.get(item["key"], SECRET) for item in items}


def _write(place: Path, files: Mapping[str, str]) -> None:
    versions = place / "..2026_01_01"
    versions.mkdir(parents=True)
    (place / "..data").symlink_to(versions.name)
    for name, text in files.items():
        (versions / name).write_text(text)
        (place / name).symlink_to(Path("..data") / name)
    for path in (place, versions):
        path.chmod(0o755)
