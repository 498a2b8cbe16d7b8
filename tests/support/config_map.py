"""A ConfigMap with a settings file, mounted and changed in the same way as the kubelet does."""

from pathlib import Path

FILE = "tickbridge.yaml"


def mount(folder: Path, text: str = "") -> Path:
    """Write the settings file, and return its path: a link through `..data`."""
    put(folder, "..1", text)
    (folder / FILE).symlink_to(f"..data/{FILE}")
    return folder / FILE


def put(folder: Path, version: str, text: str) -> None:
    """Write a new folder, and replace the old link with a new one."""
    (folder / version).mkdir()
    (folder / version / FILE).write_text(text)
    (folder / "..data_tmp").symlink_to(version)
    (folder / "..data_tmp").rename(folder / "..data")
