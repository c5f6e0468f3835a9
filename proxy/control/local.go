package control

import (
	"context"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/proxy/control/access"
)

// Peer is for ConnContext of an http.Server behind a Unix socket, and notes who is
// at the other end. Root, and the user that this process runs as, are operators;
// they need no token. On other connections it does nothing.
func Peer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var who *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		who, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return ctx
	}
	return withPeer(ctx, who.Uid)
}

type peerKey struct{}

func withPeer(ctx context.Context, uid uint32) context.Context {
	switch {
	case uid == 0:
		return context.WithValue(ctx, peerKey{}, access.Principal{Local: "root"})
	case int(uid) == os.Geteuid():
		return context.WithValue(ctx, peerKey{}, access.Principal{Local: "uid:" + strconv.FormatUint(uint64(uid), 10)})
	}
	return ctx
}

// peer is who is at the other end of the Unix socket that a request came over.
func peer(ctx context.Context) (access.Principal, bool) {
	p, ok := ctx.Value(peerKey{}).(access.Principal)
	return p, ok
}
