package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// serve starts an endpoint and returns a function that fetches a path.
func serve(t *testing.T, alive func(context.Context) error) (*Server, func(path string) (int, string)) {
	t.Helper()
	s, err := Listen("127.0.0.1:0", alive, collector(), &Daemon{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + s.Address().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
}

func TestServer(t *testing.T) {
	var broken error
	s, get := serve(t, func(context.Context) error { return broken })

	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "starting or stopping") {
		t.Errorf("/readyz before: %d %s", code, body)
	}
	s.Ready(true)
	if code, body := get("/readyz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/readyz: %d %s", code, body)
	}
	s.Ready(false)
	if code, _ := get("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz after: %d", code)
	}

	if code, body := get("/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %s", code, body)
	}
	broken = errors.New("the workers do not answer")
	if code, body := get("/healthz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "do not answer") {
		t.Errorf("/healthz when broken: %d %s", code, body)
	}

	code, body := get("/metrics")
	for _, want := range []string{"isthmus_router_packets_total{", "isthmus_build_info{", "go_goroutines ", "process_open_fds "} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("/metrics: %d without %q", code, want)
		}
	}
	if code, _ := get("/"); code != http.StatusOK {
		t.Errorf("/: %d", code)
	}
	if code, _ := get("/nothing"); code != http.StatusNotFound {
		t.Errorf("/nothing: %d", code)
	}
}

func TestListenErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		taken.Addr().String(): "is in use by another process",
		"192.0.2.1:9464":      "this host has no address 192.0.2.1:9464",
	} {
		s, err := Listen(address, nil)
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", address)
		} else if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "[metrics] listen") {
			t.Errorf("%s: got %v", address, err)
		}
	}
}
