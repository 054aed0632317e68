"""The far ends of the firewall's tests, run in network namespaces with any Python: it answers, or it knocks.

answer  stdin: [[proto, address, port], ...]. Prints one line when it listens; ends when its stdin ends.
knock   stdin: [[proto, source address or null, address, port], ...]. Prints a list with what came of each:
        accept (an answer came), reject (it was refused) or drop (nothing came).
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys

WAIT_S = 1.5
REPEAT_S = 0.4
ICMP_ECHO = {socket.AF_INET: 8, socket.AF_INET6: 128}
ICMP_PROTO = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


async def greet(_reader, writer):
    writer.write(b"hello")
    with contextlib.suppress(OSError):
        await writer.drain()
    writer.close()


async def answer(wanted):
    loop = asyncio.get_running_loop()
    for proto, address, port in wanted:
        if proto == "tcp":
            await asyncio.start_server(greet, address, port, backlog=200)
        else:
            await loop.create_datagram_endpoint(Echo, local_addr=(address, port))
    print("listening", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


async def knock_tcp(source, address, port):
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(address, port, local_addr=local, family=family(address))
    try:
        return "accept" if await reader.read(5) else "reject"
    finally:
        writer.close()


async def knock_datagram(sock, message, address):
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    with sock:
        sock.connect(address)
        while True:
            await loop.sock_sendall(sock, message)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(loop.sock_recv(sock, 1000), REPEAT_S)
                return "accept"


async def knock_udp(source, address, port):
    sock = socket.socket(family(address), socket.SOCK_DGRAM)
    if source:
        sock.bind((source, 0))
    return await knock_datagram(sock, b"knock", (address, port))


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


async def knock_icmp(source, address, _port):
    kind = family(address)
    body = struct.pack("!HH8s", os.getpid() & 0xFFFF, 1, b"knocking")
    sums = checksum(struct.pack("!BBH", ICMP_ECHO[kind], 0, 0) + body)
    sock = socket.socket(kind, socket.SOCK_RAW, ICMP_PROTO[kind])
    if source:
        sock.bind((source, 0))
    return await knock_datagram(sock, struct.pack("!BBH", ICMP_ECHO[kind], 0, sums) + body, (address, 0))


async def knock(proto, source, address, port):
    way = {"tcp": knock_tcp, "udp": knock_udp, "icmp": knock_icmp}[proto]
    try:
        return await asyncio.wait_for(way(source, address, port), WAIT_S)
    except TimeoutError:
        return "drop"
    except OSError:
        return "reject"


async def main():
    if sys.argv[1] == "answer":
        await answer(json.loads(sys.stdin.readline()))
    else:
        print(json.dumps(await asyncio.gather(*(knock(*one) for one in json.load(sys.stdin)))))


asyncio.run(main())
