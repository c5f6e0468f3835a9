package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/proxy/routes"
)

// applySysctls sets what a file in deploy/sysctl.d says.
func applySysctls(t *testing.T, h *lab.Host, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && key[0] != '#' {
			if err := h.Sysctl(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// New servers take over from old ones, one after the other, with the sysctls that
// isthmus comes with: no visitor notices.
func TestTakeoverLosesNothing(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "takeover"), "proxy")
	applySysctls(t, h, "../deploy/sysctl.d/50-isthmus.conf")
	vm := startVM(t)
	s, err := routes.NewSnapshot(1, []routes.Route{{Host: "a.example", Backends: []netip.Addr{loopback6}, HTTP: website(t, says("a")), HTTPS: vm}})
	if err != nil {
		t.Fatal(err)
	}
	table := &routes.Table{}
	table.Store(s)
	const web, tls = "127.0.0.1:8080", "127.0.0.1:8443"
	next := func() (s *Server) {
		if err := h.Do(func() (err error) {
			s, err = New(Config{
				HTTP: []netip.AddrPort{netip.MustParseAddrPort(web)}, HTTPS: []netip.AddrPort{netip.MustParseAddrPort(tls)},
				Routes: table, Reach: func(netip.Addr) error { return nil }, Limits: Limits{Connections: 1000},
			})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	hello := firstWords(t)
	visit := func(w int) error {
		at := web
		if w%2 == 1 {
			at = tls
		}
		raw, err := h.Dial(context.Background(), "tcp", at)
		if err != nil {
			return err
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
		// Some say nothing for a moment: the kernel keeps those (TCP_DEFER_ACCEPT).
		time.Sleep(time.Duration(w) * time.Millisecond)
		if at == tls {
			_, err = io.WriteString(raw, hello)
			_, err2 := io.ReadFull(raw, make([]byte, len(hello)))
			return errors.Join(err, err2)
		}
		fmt.Fprint(raw, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
		b, err := io.ReadAll(raw)
		if !strings.HasPrefix(string(b), "HTTP/1.1 200 ") || !strings.HasSuffix(string(b), "a GET a.example/ ") {
			return fmt.Errorf("%q, %w", b, err)
		}
		return nil
	}
	var served atomic.Int64
	var clients, drained sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	current := next()
	for w := range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if err := visit(w); err != nil {
					t.Errorf("lost, after %d: %v", served.Load(), err)
				}
				served.Add(1)
			}
		})
	}
	for range 8 {
		before := served.Load()
		eventually(t, "visitors", func() bool { return served.Load() > before+50 })
		old := current
		current = next()
		drained.Go(func() { old.Shutdown(context.Background()) })
	}
	stop()
	clients.Wait()
	drained.Wait()
	current.Shutdown(context.Background())
	t.Logf("%d connections", served.Load())
}

// startVM says everything back, on any port of ::1.
func startVM(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}
