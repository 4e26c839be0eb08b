"""Echoes the messages of the parent process over the descriptor of `PARLOUR_FD`, with the standard library alone."""

import os
import socket
import struct

descriptor = int(os.environ.pop("PARLOUR_FD"))
parent = socket.socket(fileno=descriptor)
os.set_inheritable(descriptor, False)
stream = parent.makefile("rwb")
while header := stream.read(4):
    (length,) = struct.unpack(">I", header)
    stream.write(header + stream.read(length))
    stream.flush()
