package jump

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Server is a jump server. Its methods may be called from many goroutines.
type Server struct {
	settings  atomic.Pointer[settings]
	admission *admission

	logins   [logins]atomic.Uint64
	channels [ends]atomic.Uint64
	up, down atomic.Uint64 // of channels that have ended
	dials    dialTimes
	backlogs atomic.Int64 // estimates of all connections, bytes

	serving sync.WaitGroup // connections, and accepting them
	nextID  atomic.Uint64

	mu        sync.Mutex
	listeners map[net.Listener]bool
	conns     map[*conn]bool // that have logged in
	raw       map[net.Conn]bool
	stopping  bool // listeners are closed
	ending    bool // connections are closed, too
}

// settings are what Update replaces.
type settings struct {
	Config
	hostKeys []ssh.AlgorithmSigner
	policy   policy
	slots    chan struct{} // for handshakes that are worked on
}

// config is what holds for whatever begins now.
func (s *Server) config() *settings { return s.settings.Load() }

func newSettings(c Config) (*settings, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	c.Limits.setDefaults()
	c.Timeouts.setDefaults()
	if c.User == "" {
		c.User = DefaultUser
	}
	if c.within == nil {
		c.within = func(fn func() error) error { return fn() }
	}
	setDefault(&c.catchUp, catchUp, never)
	n := &settings{
		Config: c,
		policy: policy{reach: c.Reach, optOut: c.OptOut},
		slots:  make(chan struct{}, c.Limits.Handshakes),
	}
	for _, k := range c.HostKeys {
		a, ok := k.(ssh.AlgorithmSigner)
		if !ok {
			return nil, fmt.Errorf("host key of type %s can't choose its algorithm", k.PublicKey().Type())
		}
		n.hostKeys = append(n.hostKeys, a)
	}
	return n, nil
}

// New makes a server. The error says what the configuration lacks.
func New(c Config) (*Server, error) {
	n, err := newSettings(c)
	if err != nil {
		return nil, err
	}
	s := &Server{
		admission: newAdmission(&n.Limits),
		listeners: map[net.Listener]bool{}, conns: map[*conn]bool{}, raw: map[net.Conn]bool{},
	}
	s.settings.Store(n)
	return s, nil
}

// Update replaces the configuration: for connections, logins and channels that
// begin from now on, and for timeouts. What is open stays open, also where it
// would not be let in any more. After an error all is as before.
func (s *Server) Update(c Config) error {
	n, err := newSettings(c)
	if err != nil {
		return err
	}
	s.admission.bound(&n.Limits)
	s.settings.Store(n)
	return nil
}

// Listen opens a TCP listener that another process may already have, so that a
// new server can take over while an old one drains.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	// Keepalives are the SSH layer's: they prove more than a TCP stack that
	// is still there.
	lc.KeepAlive = -1
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another program has this port, perhaps this host's sshd (see `ss -lntp`; change listen in [jump], or Port in sshd_config)", address)
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("listen on %s: %w (the capability CAP_NET_BIND_SERVICE is missing)", address, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// acceptPause is how long accepting rests when it fails, as it does without file
// descriptors.
const acceptPause = 50 * time.Millisecond

// Serve accepts connections until the listener is closed, as [Server.Shutdown]
// does; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		l.Close()
		return nil
	}
	s.listeners[l] = true
	s.serving.Add(1) // so that what is accepted last is waited for, too
	s.mu.Unlock()
	defer s.serving.Done()
	for complained := false; ; {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			// Told once per outage.
			if !complained {
				s.log(true, fmt.Sprintf("jump: accept on %s: %v", l.Addr(), err))
			}
			complained = true
			time.Sleep(acceptPause)
			continue
		}
		complained = false
		if !s.begin(c) {
			c.Close()
			continue
		}
		go func() {
			defer s.done(c)
			s.handle(c)
		}()
	}
}

// begin counts a connection that is worked on from now on. What was accepted
// before the listener was closed is served: its client would not try another
// server.
func (s *Server) begin(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	s.raw[c] = true
	s.serving.Add(1)
	return true
}

func (s *Server) done(c net.Conn) {
	c.Close()
	s.mu.Lock()
	delete(s.raw, c)
	s.mu.Unlock()
	s.serving.Done()
}

// handle serves one connection to its end.
func (s *Server) handle(c net.Conn) {
	deadline := time.Now().Add(s.config().Timeouts.Login)
	c, from, err := s.unwrap(c, deadline)
	if err != nil {
		s.logins[LoginNoHeader].Add(1)
		return
	}
	if verdict := s.admission.enter(from.Addr()); verdict != LoggedIn {
		s.logins[verdict].Add(1)
		if verdict == LoginPenalty || verdict == LoginSource {
			// Clients show lines before the version with -v (RFC 4253 4.2).
			_ = c.SetWriteDeadline(deadline)
			_, _ = fmt.Fprintf(c, "Not now: %s. Try again later.\r\n", sorry[verdict])
		}
		return
	}
	w := newWire(c, &s.backlogs)
	logged, verdict := s.login(w, deadline)
	s.logins[verdict].Add(1)
	if logged == nil {
		// Who goes in time costs nothing, unless it was for the key exchange.
		if verdict == LoginFailed || verdict == LoginTimeout || verdict == LoginGone && w.exchanges.Load() > 0 {
			s.admission.penalize(from.Addr(), penaltyLogin)
		}
		s.admission.leave(from.Addr(), false)
		return
	}
	s.admission.welcomed()
	defer s.admission.leave(from.Addr(), true)
	s.serve(w, from, logged)
}

var sorry = map[Login]string{
	LoginPenalty: "too many failures from your address",
	LoginSource:  "too many connections from your address",
}

// unwrap takes the PROXY header off connections from load balancers.
func (s *Server) unwrap(c net.Conn, deadline time.Time) (net.Conn, netip.AddrPort, error) {
	from := addrPort(c.RemoteAddr())
	if !contains(s.config().ProxyFrom, from.Addr()) {
		return c, from, nil
	}
	p := proxyproto.NewConn(c, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(time.Until(deadline)))
	// RemoteAddr would read the header, too, but keep what went wrong to itself.
	if p.ProxyHeader() == nil {
		return c, from, errors.New("no PROXY header")
	}
	return p, addrPort(p.RemoteAddr()), nil
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// loggedIn is what the SSH library gives for a client that is let in.
type loggedIn struct {
	conn     *ssh.ServerConn
	channels <-chan ssh.NewChannel
	requests <-chan *ssh.Request
}

// login does the handshake.
func (s *Server) login(w *wire, deadline time.Time) (*loggedIn, Login) {
	if err := w.SetDeadline(deadline); err != nil {
		return nil, LoginGone
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	turn := w.begin(ctx, s.config().slots) // Update may replace them
	defer func() { turn.end(); cancel() }()
	ciphers, err := w.hello(deadline)
	if err != nil {
		return nil, whyNot(err, deadline)
	}
	conn, channels, requests, err := ssh.NewServerConn(w, s.serverConfig(w, ciphers))
	if err != nil {
		return nil, whyNot(err, deadline)
	}
	// It fails for a client that has gone again, which shows soon enough.
	_ = w.SetDeadline(time.Time{})
	w.gcm.Store(slices.Equal(ciphers, gcmCiphers))
	w.stall.Store(int64(s.config().Timeouts.Stall))
	w.catchUp.Store(int64(s.config().catchUp))
	w.turn.Store(nil)
	return &loggedIn{conn, channels, requests}, LoggedIn
}

func whyNot(err error, deadline time.Time) Login {
	var network net.Error
	switch {
	case errors.Is(err, errBusy):
		return LoginDropped
	case time.Now().After(deadline), errors.As(err, &network) && network.Timeout():
		return LoginTimeout
	case closed(err):
		return LoginGone
	}
	return LoginFailed
}

// sweepEvery is how often connections are looked at for what has timed out.
const sweepEvery = time.Second

// Watch ends what has timed out, until ctx ends.
func (s *Server) Watch(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, c := range s.open() {
				c.watch()
			}
			s.admission.sweep()
		}
	}
}

// open are the connections that have logged in.
func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// Shutdown stops listening at once and waits for the connections to end by
// themselves. When ctx ends it closes those that are left.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	for l := range s.listeners {
		l.Close()
	}
	clear(s.listeners)
	s.mu.Unlock()

	finished := make(chan struct{})
	go func() { s.serving.Wait(); close(finished) }()
	select {
	case <-finished:
		return
	case <-ctx.Done():
	}
	for _, c := range s.open() {
		c.end(Drained)
	}
	s.mu.Lock()
	s.ending = true
	for c := range s.raw {
		c.Close()
	}
	s.mu.Unlock()
	<-finished
}

// Sessions are the connections that have logged in, in order of their numbers.
func (s *Server) Sessions() []Session {
	var list []Session
	for _, c := range s.open() {
		list = append(list, c.session())
	}
	slices.SortFunc(list, func(a, b Session) int { return int(int64(a.ID) - int64(b.ID)) })
	return list
}

// End closes the session of this number. It tells whether there was one.
func (s *Server) End(id uint64) bool {
	for _, c := range s.open() {
		if c.id == id {
			c.end(Killed)
			return true
		}
	}
	return false
}

// Stats copies all counters.
func (s *Server) Stats() Stats {
	var t Stats
	for i := range s.logins {
		t.Logins[i] = s.logins[i].Load()
	}
	for i := range s.channels {
		t.Channels[i] = s.channels[i].Load()
	}
	// A channel that ends meanwhile is counted twice or not at all, by its
	// last bytes: first those that are still open.
	for _, c := range s.open() {
		up, down := c.bytes()
		t.Up += up
		t.Down += down
	}
	t.Dials = s.dials.copy()
	t.Up += s.up.Load()
	t.Down += s.down.Load()
	t.Connections, t.Handshakes, t.Open, t.Sources = s.admission.counts()
	return t
}

func (s *Server) log(warn bool, message string) {
	if s.config().Log != nil {
		s.config().Log(warn, message)
	}
}

// host is this server's name for texts, as ssh's option -J and a shell take it.
func (s *Server) host(w net.Conn) string {
	if name := s.config().Host; name != "" {
		if a, err := netip.ParseAddr(name); err == nil {
			return quoted(a)
		}
		return name
	}
	at := addrPort(w.LocalAddr())
	if at.Port() != sshPort {
		return quoted(at.Addr()) + ":" + portText(uint32(at.Port()))
	}
	return quoted(at.Addr())
}

func quoted(a netip.Addr) string {
	if a.Is6() {
		return `'[` + a.String() + `]'`
	}
	return a.String()
}
