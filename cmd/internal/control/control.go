// Package control is how subcommands talk to the running daemon: HTTP with JSON
// over one Unix socket.
//
//	isthmus status ──► Client ──► /run/isthmus/control.sock ──► Server ──► daemon
//
// Each service adds its part with Handle. Whoever may open the socket may do
// everything: its mode is 0600, and there is no other check.
//
// Ownership: the Server owns the socket's file, and removes it on Close, unless
// another one has put its own there. A file that a killed daemon left is taken
// over; one that somebody answers on is not, but by TakeOver.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// patience is how long either side waits for the other.
const patience = 10 * time.Second

// ErrInUse tells that another daemon answers on the socket.
var ErrInUse = errors.New("another isthmus answers on it")

// Server is the daemon's side.
type Server struct {
	listener net.Listener
	path     string
	file     os.FileInfo // that this server made
	mux      *http.ServeMux
	http     *http.Server
}

// Listen opens the socket, making its directory where needed.
func Listen(path string) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := makeRoom(path); err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return listen(path)
}

// TakeOver opens the socket in the place of somebody's who answers on it, and who
// is not asked any more from then on. The path leads to one of the two at every
// moment.
func TakeOver(path string) (*Server, error) {
	temporary := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%d", os.Getpid()))
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	s, err := listen(temporary)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, path); err != nil {
		s.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	s.path = path
	return s, nil
}

func listen(path string) (*Server, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // the path may be another one's by then
	file, err := os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	return &Server{listener: l, path: path, file: file, mux: mux, http: &http.Server{
		Handler: mux, ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience,
	}}, nil
}

// makeRoom removes a socket that nobody answers on.
func makeRoom(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return errors.New("this file is no socket; remove it or choose another [control] socket")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return ErrInUse
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// Handle answers GET requests for a path with what get returns, as JSON.
func (s *Server) Handle(path string, get func() any) {
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// The client has gone if this fails, and is told nothing.
		_ = json.NewEncoder(w).Encode(get())
	})
}

// Answer answers requests of a method for a path that carry a JSON value of the
// type of Q. What f says went wrong, the client prints.
func Answer[Q, A any](s *Server, method, path string, f func(Q) (A, error)) {
	s.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		var question Q
		var answer any
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&question)
		if err == nil {
			answer, err = f(question)
		}
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
			answer = refusal{err.Error()}
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// Mount has a handler answer all below a path that ends with a slash, also those
// that take their time. With conn, requests know whose connection they came by
// (http.Server.ConnContext). To be called before Serve.
func (s *Server) Mount(path string, h http.Handler, conn func(context.Context, net.Conn) context.Context) {
	s.mux.Handle(path, h)
	s.http.ConnContext = conn
}

// refusal is the answer to a request that was not carried out.
type refusal struct {
	Error string `json:"error"`
}

// maxBody bounds a request in bytes.
const maxBody = 1 << 20

// Serve answers until ctx ends; then the socket's file is gone.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	defer s.remove()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Close stops listening. Serve does it by itself.
func (s *Server) Close() {
	s.listener.Close()
	s.remove()
}

// remove removes the socket's file, if it is still this server's.
func (s *Server) remove() {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		os.Remove(s.path)
	}
}

// Get asks the daemon behind the socket and decodes its answer.
func Get(ctx context.Context, socket, path string, answer any) error {
	return Ask(ctx, socket, http.MethodGet, path, nil, answer)
}

// Ask sends the daemon a question, or has it change something, and decodes its
// answer. The error says what it refused.
func Ask(ctx context.Context, socket, method, path string, body, answer any) error {
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://isthmus"+path, &sent)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no isthmus runs behind %s; start one, or give its [control] socket with --socket", socket)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s is not for this user; run as root or as the user that isthmus runs as", socket)
	case err != nil:
		return fmt.Errorf("ask isthmus: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("ask isthmus: %w", err)
	}
	if resp.StatusCode == http.StatusUnprocessableEntity {
		var refused refusal
		if json.Unmarshal(data, &refused) == nil && refused.Error != "" {
			return errors.New(refused.Error)
		}
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("isthmus answers %s to %s; it may be of another version", resp.Status, path)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("isthmus's answer to %s is not understood: %w", path, err)
	}
	return nil
}
