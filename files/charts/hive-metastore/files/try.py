"""`helm test`: the metastore answers on its port, and knows the database default."""

import os
import socket
import struct

name = b"get_all_databases"
# a call without arguments in Thrift's binary protocol: version and kind, name, sequence number, end
call = struct.pack(">Ii", 0x80010001, len(name)) + name + struct.pack(">ib", 1, 0)
answer = b""
with socket.create_connection((os.environ["HOST"], int(os.environ["PORT"])), timeout=30) as connection:
    connection.sendall(call)
    # a reply is of kind 2; of kind 3 is an exception
    while b"default" not in answer and answer[3:4] in (b"", b"\x02"):
        block = connection.recv(65536)
        if not block:
            break
        answer += block
if b"default" not in answer or answer[3] != 2:
    raise SystemExit(f"there is no database default in the answer: {answer!r}")
print("the metastore knows the database default")
