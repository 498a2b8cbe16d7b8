"""A connected client that the exchange treats as its fault plan says."""

from collections.abc import Callable
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.protocol import State

from bridge.tools.simulator.actions import Action, Binary, Command
from bridge.tools.simulator.batch import Batch, Form
from bridge.tools.simulator.connection_faults import ConnectionFaults
from bridge.tools.simulator.fault_engine import FaultEngine, Treatment
from bridge.tools.simulator.faults import ConnectionFault
from bridge.tools.simulator.session import Close, Target
from bridge.tools.simulator.subscriber import Subscriber


class FaultySubscriber(Subscriber):
    """A subscriber that carries out what its `ConnectionFaults` decides."""

    def __init__(self, fault_engine: FaultEngine, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._dropped = False
        self._engine = fault_engine
        self._faults: ConnectionFaults | None = None
        self._deaf = False
        self._unwritten: list[bytes] = []

    def begin(self, treatment: Treatment) -> None:
        """Take over the treatment of a handshake that is about to succeed."""
        self._dropped = treatment.dropped
        self._faults = self._engine.connection_faults(treatment.number)

    async def converse(self, target: Target, changed: Callable[[], None], life_s: float) -> None:
        if self._dropped:
            self.transport.abort()
        else:
            await super().converse(target, changed, life_s)

    def inject(self, fault: ConnectionFault) -> None:
        """Let a fault happen with the next message, if it may affect this connection."""
        if self._faults is not None:
            self._faults.inject(fault)

    def deliver(self, batch: Batch) -> None:
        if self.state is not State.OPEN or self._ending is not None or self._faults is None:
            return
        wanted = self.session.streams
        form = Form(self.session.combined, self.session.microseconds)
        frames = batch.named_texts(wanted, form)
        for action in self._faults.pass_on(frames, wanted, self._engine.now_s()):
            self._carry(action)
        self._write()

    def drop(self) -> None:
        if self._deaf:
            self.transport.abort()
        super().drop()

    def _carry(self, action: Action) -> None:
        match action:
            case bytes():
                self._put(Opcode.TEXT, action)
            case Binary(data):
                self._put(Opcode.BINARY, data)
            case Close():
                self._write()
                self.end(action)
            case Command.ANNOUNCE_SHUTDOWN:
                self._write()
                announcement = self._engine.announcement()
                self.deliver_streams(Batch([announcement]), (announcement[0],))
            case Command.ABORT:
                self._write()
                self.transport.abort()
            case Command.STOP_READING:
                self._stop_reading()
            case Command.READ_AGAIN:
                self._read_again()

    def _put(self, opcode: Opcode, data: bytes) -> None:
        if self.protocol.extensions:
            send = self.protocol.send_text if opcode is Opcode.TEXT else self.protocol.send_binary
            send(data)
            self._unwritten += self.protocol.data_to_send()
        else:
            self._unwritten.append(Frame(opcode, data).serialize(mask=False))

    def _write(self) -> None:
        if self._unwritten:
            self.transport.write(b"".join(self._unwritten))
            self._unwritten.clear()

    def _stop_reading(self) -> None:
        """Act like a host that hangs: no pongs, no pings, and no notice of a client that leaves."""
        self._deaf = True
        self.transport.pause_reading()
        if self.keepalive_task is not None:
            self.keepalive_task.cancel()

    def _read_again(self) -> None:
        self._deaf = False
        self.transport.resume_reading()
        self.start_keepalive()
