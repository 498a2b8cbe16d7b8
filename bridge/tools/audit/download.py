"""Downloads an archive and its checksum."""

from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from bridge.tools.audit.archive import BadArchive

MAX_ARCHIVE_BYTES = 8 * 2**30
MAX_CHECKSUM_BYTES = 4096
# Without a byte for this long the download is given up.
QUIET_TIMEOUT_S = 30.0
_CHUNK_BYTES = 2**18


async def download(url: str, folder: Path) -> Path:
    """Download an archive and its `.CHECKSUM` into a folder; return the archive. Raises BadArchive.

    The proxy of the environment is used (`HTTPS_PROXY`).
    """
    path = folder / urlsplit(url).path.rpartition("/")[2]
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=QUIET_TIMEOUT_S, sock_read=QUIET_TIMEOUT_S
    )
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
        await _fetch(session, url, path, MAX_ARCHIVE_BYTES)
        checksum = path.with_name(path.name + ".CHECKSUM")
        await _fetch(session, url + ".CHECKSUM", checksum, MAX_CHECKSUM_BYTES)
    return path


async def _fetch(session: aiohttp.ClientSession, url: str, path: Path, max_bytes: int) -> None:
    size = 0
    try:
        async with session.get(url) as answer:
            answer.raise_for_status()
            with path.open("wb") as file:
                async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > max_bytes:
                        raise BadArchive(f"{url} has more than {max_bytes} bytes")
                    file.write(chunk)
    except aiohttp.ClientResponseError as error:
        raise BadArchive(
            f"{url}: HTTP {error.status}; the archive of a day is there on the next day"
        ) from error
    except (aiohttp.ClientError, aiohttp.InvalidURL, TimeoutError, OSError) as error:
        raise BadArchive(f"{url}: {str(error) or 'does not answer in time'}") from error
