package sdnotify

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestSend(t *testing.T) {
	for _, tt := range []struct{ name, socket string }{
		{"path", filepath.Join(t.TempDir(), "notify")},
		{"abstract", "@isthmus-test-" + strconv.Itoa(os.Getpid())},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: tt.socket, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			t.Setenv("NOTIFY_SOCKET", tt.socket)
			n := New()
			if _, set := os.LookupEnv("NOTIFY_SOCKET"); set {
				t.Error("NOTIFY_SOCKET is still there for child processes")
			}
			if err := n.Send(Ready, Status("2 ports")); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 512)
			size, err := conn.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(buf[:size]), "READY=1\nSTATUS=2 ports\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestSendWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := New().Send(Ready); err != nil {
		t.Errorf("no socket: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "missing"))
	if err := New().Send(Ready); err == nil {
		t.Error("a socket that nobody listens on is no error")
	}
}

func TestReloading(t *testing.T) {
	got := Reloading()
	if len(got) != 2 || got[0] != "RELOADING=1" {
		t.Fatalf("got %q", got)
	}
	usec, err := strconv.ParseInt(strings.TrimPrefix(got[1], "MONOTONIC_USEC="), 10, 64)
	if err != nil || usec <= 0 {
		t.Errorf("got %q", got[1])
	}
}

func TestWatchdogInterval(t *testing.T) {
	for _, tt := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0},
		{"20000000", "", 10 * time.Second},
		{"20000000", strconv.Itoa(os.Getpid()), 10 * time.Second},
		{"20000000", "1", 0},
		{"-1", "", 0},
		{"soon", "", 0},
	} {
		t.Setenv("WATCHDOG_USEC", tt.usec)
		t.Setenv("WATCHDOG_PID", tt.pid)
		if got := WatchdogInterval(); got != tt.want {
			t.Errorf("%q %q: got %v, want %v", tt.usec, tt.pid, got, tt.want)
		}
	}
}
