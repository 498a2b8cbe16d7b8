"""The simulated exchange: serves a market over Binance's WebSocket and REST, on one port."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Self, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from bridge.tools.simulator.audience import Audience
from bridge.tools.simulator.errors import SimulatorError
from bridge.tools.simulator.fault_engine import FaultEngine
from bridge.tools.simulator.fault_plan import FaultPlan
from bridge.tools.simulator.faults import ConnectionFault
from bridge.tools.simulator.faulty_subscriber import FaultySubscriber
from bridge.tools.simulator.history import TRADES_KEPT, History
from bridge.tools.simulator.incidents import Incident
from bridge.tools.simulator.partial_history import PartialHistory
from bridge.tools.simulator.player import Player
from bridge.tools.simulator.rest import WEIGHT_PER_MINUTE, Answer, Rest, WeightBudget
from bridge.tools.simulator.session import parse_target
from bridge.tools.simulator.source import Source
from bridge.tools.simulator.subscriber import CLOSE_TIMEOUT_S, Subscriber

LIFE_S = 24 * 60 * 60.0  # this and the ping values: binance.md, section 2
PING_INTERVAL_S = 20.0
PONG_TIMEOUT_S = 60.0
OPEN_TIMEOUT_S = 60.0  # for a handshake or a request that a plan delays

_WRITE_BUFFER_BYTES = 256 * 1024  # above it, flat-out play waits for the client

_Respond = Callable[[ServerConnection, Request], Response | Awaitable[Response | None] | None]


class SimulatedExchange:
    """An asynchronous context manager that serves while it is open.

        async with SimulatedExchange(Replay([Capture.read(path)]), speed=None) as exchange:
            ...  # connect to exchange.websocket_url
            await exchange.finished.wait()

    `speed` is a multiple of real time; None or inf plays flat out, as fast as the clients read.
    Play starts once `start_after_streams` different streams are subscribed; 0 starts it at once.
    `port` 0 takes a free port. `faults` says what goes wrong; with it, `happened` lists the faults
    so far and `history` counts messages. Raises OSError if the port is taken, and SimulatorError
    if a setting is not possible.
    """

    def __init__(  # noqa: PLR0913 (each is a setting of its own)
        self,
        source: Source,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float | None = 1.0,
        start_after_streams: int = 1,
        compression: bool = True,
        life_s: float = LIFE_S,
        weight_per_minute: int = WEIGHT_PER_MINUTE,
        trades_kept: int = TRADES_KEPT,
        faults: FaultPlan | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.source = source
        self.history = History(source.symbols, trades_kept, counting=faults is not None)
        self._audience = Audience(source, start_after_streams)
        self._player = Player(source, self.history, self._audience, speed)
        self._engine = (
            None if faults is None else FaultEngine(faults, source, lambda: self._player.played_s)
        )
        known = PartialHistory(self.history, self._engine) if self._engine else None
        self.rest = Rest(source, known or self.history, WeightBudget(weight_per_minute))
        self._compression = "deflate" if compression else None
        self._life_s = life_s
        self._stack = AsyncExitStack()
        self._tasks = asyncio.TaskGroup()
        self._playing: asyncio.Task[None] | None = None

    @property
    def websocket_url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    @property
    def rest_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def finished(self) -> asyncio.Event:
        """Return the event that is set once all has been played and written to the sockets."""
        return self._player.finished

    @property
    def happened(self) -> list[Incident]:
        """Return the faults so far, in order, as a new list."""
        return self._engine.incidents.happened() if self._engine else []

    def inject(self, fault: ConnectionFault) -> None:
        """Let a fault happen with the next message, whatever the fault plan says.

        It affects the connections that are open now, or only `fault.connection`. Raises
        SimulatorError if the exchange has no fault plan.
        """
        if self._engine is None:
            raise SimulatorError("an exchange without a fault plan cannot break; give it faults")
        for subscriber in self._audience.subscribers():
            if isinstance(subscriber, FaultySubscriber):
                subscriber.inject(fault)

    async def __aenter__(self) -> Self:
        server = await self._stack.enter_async_context(self._server())
        self._stack.callback(self._audience.dismiss)
        self.port = server.sockets[0].getsockname()[1]
        await self._tasks.__aenter__()
        self._playing = self._tasks.create_task(self._player.play(), name="simulated market")
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._playing is not None:
            self._playing.cancel()
        # The group must know of a cancellation, but it would wrap any other error of the caller.
        cancelled = isinstance(error, asyncio.CancelledError)
        try:
            await self._tasks.__aexit__(
                error_type if cancelled else None, error if cancelled else None, traceback
            )
        finally:
            await self._stack.aclose()

    def _server(self) -> Server:
        subscriber, respond = self._manners()
        return serve(
            self._converse,
            self.host,
            self.port,
            create_connection=subscriber,
            process_request=respond,
            compression=self._compression,
            open_timeout=OPEN_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PONG_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            write_limit=_WRITE_BUFFER_BYTES,
            server_header=None,
        )

    def _manners(self) -> tuple[type[ServerConnection], _Respond]:
        """Return the connection class and the function that answers handshakes."""
        if self._engine is None:
            return Subscriber, self._respond
        faulty_subscriber = partial(FaultySubscriber, self._engine)
        return cast("type[ServerConnection]", faulty_subscriber), partial(
            self._respond_badly, self._engine
        )

    async def _converse(self, connection: ServerConnection) -> None:
        target = parse_target(connection.request.path) if connection.request else None
        if target is None or not isinstance(connection, Subscriber):
            return
        self._audience.join(connection)
        try:
            await connection.converse(target, self._audience.recount, self._life_s)
        finally:
            self._audience.leave(connection)

    def _respond(self, connection: ServerConnection, request: Request) -> Response | None:  # noqa: ARG002
        """Answer a REST request; return None to let a WebSocket handshake continue."""
        path, _, query = request.path.partition("?")
        if parse_target(request.path) is not None:
            return None
        unit = request.headers.get("X-MBX-TIME-UNIT", "")
        microseconds = unit.upper() == "MICROSECOND"
        return _response(self.rest.answer(path, query, microseconds=microseconds))

    async def _respond_badly(
        self, fault_engine: FaultEngine, connection: ServerConnection, request: Request
    ) -> Response | None:
        websocket = parse_target(request.path) is not None
        treatment = fault_engine.handshake() if websocket else fault_engine.request(request.path)
        await asyncio.sleep(treatment.delay_s)
        if treatment.refusal is not None:
            return _response(treatment.refusal)
        if websocket and isinstance(connection, FaultySubscriber):
            connection.begin(treatment)
        return self._respond(connection, request)


def _response(answer: Answer) -> Response:
    headers = Headers(
        {
            "Content-Type": "application/json;charset=UTF-8",
            "Content-Length": str(len(answer.body)),
            "Connection": "close",
            **answer.headers,
        }
    )
    return Response(answer.status, HTTPStatus(answer.status).phrase, headers, answer.body)
