package control

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// Only the two users that could do everything anyway need no token.
func TestPeer(t *testing.T) {
	for uid, want := range map[uint32]string{0: "root", uint32(os.Geteuid()) + 1: ""} {
		if got, _ := peer(withPeer(t.Context(), uid)); got.Local != want {
			t.Errorf("uid %d is %q", uid, got.Local)
		}
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	if got, ok := peer(Peer(t.Context(), served)); !ok || !got.Operator() || got.By() == "" {
		t.Errorf("this user is %+v", got)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, ok := peer(Peer(t.Context(), a)); ok {
		t.Error("what is no Unix socket has a peer")
	}
}
