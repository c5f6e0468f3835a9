package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// serve starts a server and returns a function that stops it.
func serve(t *testing.T, path string) func() {
	t.Helper()
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("/v1/number", func() any { return 42 })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestGet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "control.sock")
	stop := serve(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	var n int
	if err := Get(context.Background(), path, "/v1/number", &n); err != nil || n != 42 {
		t.Errorf("got %d, %v", n, err)
	}
	if err := Get(context.Background(), path, "/v1/other", &n); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("unknown path: %v", err)
	}
	var s string
	if err := Get(context.Background(), path, "/v1/number", &s); err == nil || !strings.Contains(err.Error(), "not understood") {
		t.Errorf("wrong type: %v", err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Errorf("second server: %v", err)
	}
	stop()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if err := Get(context.Background(), path, "/v1/number", &n); err == nil || !strings.Contains(err.Error(), "no isthmus runs behind") {
		t.Errorf("nobody there: %v", err)
	}
}

// A daemon that was killed leaves its socket; the next one takes it over.
func TestListenOverLeftovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if err := Get(context.Background(), path, "/v1/number", new(int)); err == nil || !strings.Contains(err.Error(), "no isthmus runs behind") {
		t.Errorf("nobody there: %v", err)
	}
	serve(t, path)()

	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("somebody's file was removed: %v", err)
	}
}

// The path leads to the new server from one moment to the next, and the old one
// leaves it alone when it ends.
func TestTakeOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	stop := serve(t, path)
	s, err := TakeOver(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("/v1/number", func() any { return 43 })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx) }()
	for _, when := range []string{"before", "after"} {
		var n int
		if err := Get(context.Background(), path, "/v1/number", &n); err != nil || n != 43 {
			t.Errorf("%s the old one's end: got %d, %v", when, n, err)
		}
		if when == "before" {
			stop()
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
