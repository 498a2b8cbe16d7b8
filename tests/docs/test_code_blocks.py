"""Every code block of the documents runs, on a bridge with embedded brokers.

`tests/support/stand_ins.py` says what becomes of the commands that need more than that.
"""

import asyncio
import os
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bridge.settings import Settings, load_settings
from tests.support import stand_ins
from tests.support.documents import PAGES, ROOT, Block, blocks
from tests.support.market import SYMBOLS, Addresses, market

# Blocks that show something: pictures, outputs, and the usage of commands.
SHOWN = {"text"}
COMMENT = re.compile(r"(?:#|//) (\S+\.[a-z]+)\n")
TIMEOUT_S = 120
KUBERNETES = "1.34"

pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Ground:
    """The folder in which the blocks of a page run, and the addresses that they find."""

    folder: Path
    at: Addresses

    def prepare(self) -> None:
        stand_ins.install(self.folder / "bin")
        for name in ("yours.yaml", "simulated.yaml"):
            (self.folder / name).write_text("{}")
        (self.folder / ".venv" / "bin").mkdir(parents=True)
        (self.folder / ".venv" / "bin" / "activate").touch()
        for entry in ROOT.iterdir():
            if not entry.name.startswith(".") and entry.name != "tickbridge.yaml":
                (self.folder / entry.name).symlink_to(entry)

    def with_addresses(self, code: str) -> str:
        """Return the code with the addresses of the test in place of those that readers know."""
        for known, ours in {
            "redis://localhost:6379/0": self.at.redis,
            "redis://localhost:6379": self.at.redis.removesuffix("/0"),
            "localhost:9092": self.at.kafka,
            "http://localhost:8080": self.at.http,
        }.items():
            code = code.replace(known, ours)
        return code

    @property
    def variables(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TICKBRIDGE_")}
        return inherited | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            stand_ins.NOT_INSTALLED: str(self.folder / stand_ins.NOT_INSTALLED),
            "TICKBRIDGE_BINANCE__SYMBOLS": ",".join(SYMBOLS),
            "TICKBRIDGE_BINANCE__STREAMS": "trade,bookTicker",
            "TICKBRIDGE_BINANCE__WEBSOCKET_URL": self.at.websocket,
            "TICKBRIDGE_BINANCE__REST_URL": self.at.rest,
            "TICKBRIDGE_KAFKA__BOOTSTRAP_SERVERS": self.at.kafka,
            "TICKBRIDGE_KAFKA__CREATE_TOPICS": "false",
            "TICKBRIDGE_REDIS__URL": self.at.redis,
            "TICKBRIDGE_HTTP__PORT": self.at.http.rpartition(":")[2],
        }

    async def run(self, block: Block) -> None:
        """Run a block, or check it if it is data. Fail the test if that fails."""
        code = self.with_addresses(block.code)
        if named := COMMENT.match(code):
            (self.folder / named[1]).write_text(code)
        match block.language:
            case "sh":
                await self.call(block, code)
            case "console":
                await self.call(block, "\n".join(re.findall(r"(?m)^\$ (.*)$", code)))
            case "python":
                await self.call(block, f"block {self.saved(block, code, 'py')}")
            case "javascript":
                await self.call(block, f"node {self.saved(block, code, 'mjs')}")
            case "yaml":
                await self.check_yaml(block, yaml.safe_load(code))
            case language:
                assert language in SHOWN, f"{block}: nothing runs a block of {language!r}"

    def saved(self, block: Block, code: str, ending: str) -> str:
        file = self.folder / f"block_{block.line}.{ending}"
        file.write_text(code)
        return str(file)

    async def check_yaml(self, block: Block, data: dict[str, Any]) -> None:
        """Check settings by loading them, values of the chart by rendering it."""
        if "apiVersion" in data:
            kubernetes_validate.validate(data, KUBERNETES, strict=True)
        elif data.keys() <= Settings.model_fields.keys():
            load_settings(environment={}, overrides={"binance": {"symbols": SYMBOLS}} | data)
        else:
            file = self.saved(block, yaml.safe_dump(data), "yaml")
            await self.call(block, f"helm template charts/tickbridge --values {file}")

    async def call(self, block: Block, script: str) -> None:
        """Run a script in the environment that the one before it has left."""
        script = f"test ! -e .state || . ./.state\n{script}\nexport -p > .state"
        process = await asyncio.create_subprocess_exec(
            *("bash", "-e", "-c", script),
            cwd=self.folder,
            env=self.variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                output, _ = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, f"{block}\n{block.code}\n{output.decode()}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
async def test_the_code_blocks_of_a_page_run(page: str, tmp_path: Path) -> None:
    folder, bridge = tmp_path / "reader", tmp_path / "bridge"
    folder.mkdir()
    bridge.mkdir()
    async with market(bridge) as at:
        ground = Ground(folder, at)
        ground.prepare()
        for block in blocks(page):
            await ground.run(block)
    missing = folder / stand_ins.NOT_INSTALLED
    if missing.exists():
        names = ", ".join(sorted(set(missing.read_text().split())))
        pytest.skip(f"all blocks passed, without the commands of {names}: not installed")
