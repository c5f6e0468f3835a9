"""An SSH client that sends data after its end of file.

Arguments: the jump server's address, a VM's.
"""
import socket
import sys
import time

import paramiko
from paramiko.common import cMSG_CHANNEL_DATA

JUMP, VM = sys.argv[1:]
t = paramiko.Transport(socket.create_connection((JUMP, 22), 20))
t.start_client(timeout=20)
t.auth_none("jump")
c = t.open_channel("direct-tcpip", (VM, 22), ("127.0.0.1", 1), timeout=20)
c.shutdown_write()
m = paramiko.Message()
m.add_byte(cMSG_CHANNEL_DATA)
m.add_int(c.remote_chanid)
m.add_string(b"x")
t._send_user_message(m)
deadline = time.time() + 20
while t.is_active() and time.time() < deadline:
    time.sleep(0.05)
print("still there" if t.is_active() else "ended")
