package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"aarch64.com/isthmus/perf/lab"
)

const (
	httpPort = 80
	dnsPort  = 53
	udpPort  = 7 // echo, RFC 862
	// bulkSize is enough that a stall or a black hole shows.
	bulkSize = 10_000_000
)

// bulk is what large transfers carry, and its SHA-256 in hex.
var bulk = sync.OnceValues(func() ([]byte, string) {
	data := make([]byte, bulkSize)
	_, _ = rand.NewChaCha8([32]byte([]byte("isthmus demo: ten million bytes."))).Read(data)
	sum := sha256.Sum256(data)
	return data, hex.EncodeToString(sum[:])
})

// services are the servers on one host: HTTP on port 80, UDP echo on port 7.
type services struct {
	http *http.Server
	udp  net.PacketConn // nil: HTTP only
}

func serve(h *lab.Host) (*services, error) {
	s, err := serveHTTP(h, "")
	if err != nil {
		return nil, err
	}
	if s.udp, err = h.ListenPacket("udp", ":"+strconv.Itoa(udpPort)); err != nil {
		s.close()
		return nil, err
	}
	go echo(s.udp)
	return s, nil
}

// serveHTTP serves HTTP on one address of a host, or on all with "".
func serveHTTP(h *lab.Host, address string) (*services, error) {
	l, err := h.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(httpPort)))
	if err != nil {
		return nil, err
	}
	s := &services{http: &http.Server{Handler: handler(h.Name()), ReadHeaderTimeout: 10 * time.Second}}
	go func() { _ = s.http.Serve(l) }()
	return s, nil
}

func (s *services) close() {
	_ = s.http.Close()
	if s.udp != nil {
		_ = s.udp.Close()
	}
}

func handler(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		// The caller's address as this host sees it is half of the proof.
		address, port, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "This is %s. You are %s, port %s.\n", name, address, port)
	})
	mux.HandleFunc("GET /bulk", func(w http.ResponseWriter, _ *http.Request) {
		data, sum := bulk()
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Header().Set("X-SHA256", sum)
		_, _ = w.Write(data)
	})
	mux.HandleFunc("POST /bulk", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%x", h.Sum(nil))
	})
	return mux
}

// echo returns every datagram to its sender.
func echo(c net.PacketConn) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		_, _ = c.WriteTo(buf[:n], from)
	}
}
