"""A simulated boiler: a Modbus TCP server with three holding registers.

Register 0 is the temperature and register 1 the setpoint, both in tenths of a degree; register 2
is 1 while it heats. Each look at it lets some time pass.
"""

from __future__ import annotations

import argparse
import asyncio

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


async def let_time_pass(
    function: int, start: int, address: int, count: int, registers: list[int], values: object
) -> None:
    temperature, setpoint = registers[:2]
    step = max(-10, min(10, setpoint - temperature))
    registers[0], registers[2] = temperature + step, int(step > 0)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5020, help="to listen on")
    options = parser.parse_args()
    registers = SimData(0, values=[200, 200, 0], datatype=DataType.REGISTERS)
    boiler = SimDevice(1, [registers], action=let_time_pass)
    await ModbusTcpServer(boiler, address=("127.0.0.1", options.port)).serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
