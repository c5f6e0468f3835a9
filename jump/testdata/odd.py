"""An SSH client that asks a jump server for all there is, and compares answers.

Arguments: the jump server's address, a VM's, and a private key for the VM.
"""
import socket
import sys

import paramiko
from paramiko.ssh_exception import ChannelException, SSHException

JUMP, VM, KEY = sys.argv[1:]
PROHIBITED, FAILED, UNKNOWN = 1, 2, 3


def connect():
    t = paramiko.Transport(socket.create_connection((JUMP, 22), 20))
    t.start_client(timeout=20)
    return t


def check(what, got, want):
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")


def refused(what, code, open_channel):
    try:
        open_channel()
    except ChannelException as e:
        check(what, e.code, code)
    else:
        sys.exit(f"{what} was opened")


# Any login is right, and each of these is the first that the client tries.
for name, login in (
    ("password", lambda t: t.auth_password("jump", "whatever")),
    ("key", lambda t: t.auth_publickey("jump", paramiko.ECDSAKey.generate())),
    ("RSA key", lambda t: t.auth_publickey("jump", paramiko.RSAKey.generate(2048))),
    ("keyboard-interactive", lambda t: t.auth_interactive("jump", lambda *_: [])),
    ("none", lambda t: t.auth_none("jump")),
):
    t = connect()
    login(t)
    check("logged in by " + name, t.is_authenticated(), True)
    t.close()

# A wrong user gets in with nothing.
t = connect()
for login in (lambda: t.auth_none("root"), lambda: t.auth_password("root", "x")):
    try:
        login()
    except SSHException:
        pass
    check("a wrong user is let in", t.is_authenticated(), False)
t.close()

t = connect()
t.auth_none("jump")

# Whatever runs in a session is the help.
for name, start in (
    ("shell", lambda c: c.invoke_shell()),
    ("exec", lambda c: c.exec_command("uptime")),
    ("subsystem", lambda c: c.invoke_subsystem("netconf")),
):
    c = t.open_session(timeout=20)
    if name == "shell":
        c.get_pty()
    start(c)
    text = c.makefile_stderr().read().decode()
    if "ssh -J jump@" not in text:
        sys.exit(f"{name}: {text!r}")
    check(name, c.recv_exit_status(), 1)
    check(name + "'s output", c.recv(100), b"")
    c.close()

# What a session has besides: refused, and the session goes on.
c = t.open_session(timeout=20)
for name, ask in (
    ("x11-req", lambda: c.request_x11()),
    ("agent forwarding", lambda: c.request_forward_agent(lambda *_: None)),
):
    try:
        ask()
    except SSHException:
        # paramiko closes a channel that got a refusal
        c = t.open_session(timeout=20)
c.exec_command("x")
check("exec after refusals", c.recv_exit_status(), 1)
c.close()

# Ports and sockets on the jump server.
for request in ("tcpip-forward", "streamlocal-forward@openssh.com", "tun@openssh.com"):
    if t.global_request(request, ("", 8080) if request == "tcpip-forward" else ("/tmp/x",), wait=True) is not None:
        sys.exit(request + " was accepted")
# Keepalives, as many as a day's.
for _ in range(50):
    t.global_request("keepalive@lag.net", wait=True)

# Channels of other kinds.
src = ("127.0.0.1", 1)
for kind in ("x11", "forwarded-tcpip", "auth-agent@openssh.com", "direct-streamlocal@openssh.com", "tun@openssh.com", "nonsense"):
    refused(kind, UNKNOWN, lambda: t.open_channel(kind, ("/run/x", 0), src, timeout=20))
for what, code, where in (
    ("another port", PROHIBITED, (VM, 80)),
    ("port 2^16 + 22", PROHIBITED, (VM, 65536 + 22)),
    ("a name", PROHIBITED, ("localhost", 22)),
    ("loopback", PROHIBITED, ("::1", 22)),
    ("no VM's", PROHIBITED, ("2001:db8:ffff::1", 22)),
):
    refused(what, code, lambda: t.open_channel("direct-tcpip", where, src, timeout=20))

# After all that the connection still works.
inner = paramiko.Transport(t.open_channel("direct-tcpip", (VM, 22), src, timeout=20))
inner.start_client(timeout=20)
inner.auth_publickey("root", paramiko.Ed25519Key.from_private_key_file(KEY))
c = inner.open_session(timeout=20)
c.exec_command("echo hello; exit 3")
check("output of the VM", c.makefile().read(), b"hello\n")
check("status of the VM", c.recv_exit_status(), 3)
inner.close()
t.close()
print("done")
