#!/usr/bin/python3
"""The same between websockets and TCP as connpipe does, made with python3-websockets: what raw peers are held against.

    ws_reference.py serve PORT TARGET     websockets on 127.0.0.1:PORT, TCP to 127.0.0.1:TARGET
    ws_reference.py connect PORT URL      TCP on 127.0.0.1:PORT, websockets to URL
    ws_reference.py echo PORT             websockets on 127.0.0.1:PORT, each message is answered with itself
    ws_reference.py ask URL SIZE …        a client that sends random messages of these sizes and wants them back, text
                                          and binary; prints "ok"

    … deflate=1 protocol=NAME ca=FILE     for all of them

A program of its own, since the module is installed for the system's Python, whichever runs the tests."""

import asyncio
import os
import socket
import ssl
import struct
import sys

import websockets

LIMIT = 1 << 20


def options(words):
    chosen = dict(word.split("=", 1) for word in words)
    result = {"compression": "deflate" if "deflate" in chosen else None, "max_size": 1 << 40, "ping_interval": None}
    if "protocol" in chosen:
        result["subprotocols"] = [chosen["protocol"]]
    if "ca" in chosen:
        result["ssl"] = ssl.create_default_context(cafile=chosen["ca"])
    return result


def reset(writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def to_tcp(websocket, writer):
    try:
        async for message in websocket:
            writer.write(message.encode() if isinstance(message, str) else message)
            await writer.drain()
        writer.write_eof()
    except websockets.ConnectionClosedError:
        reset(writer)
    except OSError:
        pass


async def to_websocket(reader, websocket):
    try:
        while data := await reader.read(LIMIT):
            await websocket.send(data)
        await websocket.close()
    except websockets.ConnectionClosed:
        pass
    except OSError:
        await websocket.close(1011)


async def both_ways(websocket, reader, writer):
    up = asyncio.ensure_future(to_tcp(websocket, writer))
    down = asyncio.ensure_future(to_websocket(reader, websocket))
    await up
    down.cancel()
    writer.close()


async def serve(port, target, **more):
    async def on_websocket(websocket, _path):
        await both_ways(websocket, *await asyncio.open_connection("127.0.0.1", int(target)))

    async with websockets.serve(on_websocket, "127.0.0.1", int(port), **more):
        await asyncio.Future()


async def connect(port, url, **more):
    async def on_tcp(reader, writer):
        try:
            websocket = await websockets.connect(url, **more)
        except (websockets.InvalidHandshake, websockets.InvalidURI, OSError, EOFError):
            reset(writer)
            return
        await both_ways(websocket, reader, writer)

    async with await asyncio.start_server(on_tcp, "127.0.0.1", int(port)) as server:
        await server.serve_forever()


async def echo(port, **more):
    async def on_websocket(websocket, _path):
        async for message in websocket:
            await websocket.send(message)

    async with websockets.serve(on_websocket, "127.0.0.1", int(port), **more):
        await asyncio.Future()


async def ask(url, *sizes, **more):
    async with websockets.connect(url, **more) as websocket:
        for size in map(int, sizes):
            message = os.urandom(size)
            for each in (message, message.hex()):
                await websocket.send(each)
                assert await websocket.recv() == each, "another message came back"
        await (await websocket.ping(b"are you there"))
    print("ok", websocket.subprotocol or "", websocket.close_code)


def main():
    plain = [word for word in sys.argv[2:] if "=" not in word or word.startswith("ws")]
    chosen = [word for word in sys.argv[2:] if word not in plain]
    modes = {"serve": serve, "connect": connect, "echo": echo, "ask": ask}
    asyncio.run(modes[sys.argv[1]](*plain, **options(chosen)))


if __name__ == "__main__":
    main()
