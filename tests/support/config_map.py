"""A ConfigMap with a settings file, mounted as the kubelet mounts it, and changed as it does."""

from pathlib import Path

FILE = "tickbridge.yaml"


def mount(folder: Path, text: str = "") -> Path:
    """Returns the settings file: a link through `..data`."""
    put(folder, "..1", text)
    (folder / FILE).symlink_to(f"..data/{FILE}")
    return folder / FILE


def put(folder: Path, version: str, text: str) -> None:
    """A new folder, and a new link in the place of the old one."""
    (folder / version).mkdir()
    (folder / version / FILE).write_text(text)
    (folder / "..data_tmp").symlink_to(version)
    (folder / "..data_tmp").rename(folder / "..data")
