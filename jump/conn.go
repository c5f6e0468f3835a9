package jump

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// conn is a client that has logged in.
type conn struct {
	server *Server
	wire   *wire
	ssh    *ssh.ServerConn
	id     uint64
	from   netip.AddrPort
	who    string
	start  time.Time

	version string // what the client calls itself

	refusals atomic.Int32
	ending   atomic.Uint32   // End that the server chose; Running: none
	asking   atomic.Bool     // a keepalive has no answer yet
	empty    atomic.Int64    // since when there is no channel, UnixNano; 0: there is one
	helping  atomic.Int32    // sessions that are told what to do instead
	proved   map[string]bool // host keys, by their public halves

	channels sync.WaitGroup
	mu       sync.Mutex
	relays   map[*relay]*Record
	count    int // channels, with those that are still being dialled
}

// keepalives is for how many times the interval a peer may not answer.
const keepalives = 3

// maxHelping bounds the sessions that are told at once what to do instead.
const maxHelping = 2

// serve handles a client's channels and requests until it goes.
func (s *Server) serve(w *wire, from netip.AddrPort, l *loggedIn) {
	c := &conn{
		server: s, wire: w, ssh: l.conn, id: s.nextID.Add(1), from: from, start: time.Now(),
		version: printable(string(l.conn.ClientVersion())),
		relays:  map[*relay]*Record{}, proved: map[string]bool{},
	}
	if l.conn.Permissions != nil {
		c.who = l.conn.Permissions.Extensions[whoKey]
	}
	c.empty.Store(c.start.UnixNano())
	s.mu.Lock()
	s.conns[c] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		w.backlog.free()
	}()

	s.announceKeys(l.conn)
	for l.channels != nil || l.requests != nil {
		select {
		case nc, ok := <-l.channels:
			if !ok {
				l.channels = nil
				continue
			}
			c.open(nc)
		case r, ok := <-l.requests:
			if !ok {
				l.requests = nil
				continue
			}
			c.request(r)
		}
	}
	// Relays that are still to come look at the wire's reason. It has none after
	// a client's goodbye, and after nonsense.
	w.ended(Finished)
	c.closeRelays(c.reason(Finished))
	c.channels.Wait()
}

// reason is why channels end when the connection has: the server's, if it was
// its choice, or what showed on the wire.
func (c *conn) reason(otherwise End) End {
	if e := End(c.ending.Load()); e != Running {
		return e
	}
	if e := End(c.wire.fate.Load()); e != Running {
		return e
	}
	return otherwise
}

// end closes the connection and with it all its channels.
func (c *conn) end(why End) {
	c.ending.CompareAndSwap(uint32(Running), uint32(why))
	// The transport is closed below the SSH library, which may be waiting for
	// the client in a write.
	c.wire.Close()
}

func (c *conn) closeRelays(why End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.relays {
		r.close(why)
	}
}

// request answers what is not about a channel: no ports are opened here.
func (c *conn) request(r *ssh.Request) {
	switch {
	case r.Type == proveRequest:
		c.proveKeys(r)
	case strings.HasPrefix(r.Type, "keepalive@"), r.Type == "no-more-sessions@openssh.com":
		// Clients ask whether we are still there, each under a name of its own,
		// and any answer will do. OpenSSH's is "no such request". Its clients
		// forgo sessions, of which there are none anyway.
		_ = r.Reply(false, nil)
	default:
		_ = r.Reply(false, nil)
		c.refused(RefusedRequest)
	}
}

// refused counts something that was refused. A client that goes on and on is
// closed.
func (c *conn) refused(end End) {
	c.server.channels[end].Add(1)
	if int(c.refusals.Add(1)) == c.server.config().Limits.RefusalsPerConn+1 {
		c.server.admission.penalize(c.from.Addr(), penaltyFlood)
		c.end(RefusedCount)
	}
}

// open answers a wish for a channel.
func (c *conn) open(nc ssh.NewChannel) {
	switch nc.ChannelType() {
	case "direct-tcpip":
		c.direct(nc)
	case "session":
		if c.helping.Add(1) > maxHelping {
			c.helping.Add(-1)
			_ = nc.Reject(ssh.ResourceShortage, "this is a jump server; use ssh -J")
			c.refused(RefusedCount)
			return
		}
		c.channels.Go(func() {
			defer c.helping.Add(-1)
			c.help(nc)
		})
	default:
		_ = nc.Reject(ssh.UnknownChannelType, "this is a jump server; it only relays to VMs")
		c.refused(RefusedType)
	}
}

// direct answers the wish for a relay. What takes time happens in a goroutine of
// its own: one VM that does not answer must not keep the others waiting.
func (c *conn) direct(nc ssh.NewChannel) {
	s := c.server
	record := &Record{
		Session: c.id, Source: c.from, Version: c.version, Who: c.who, Start: time.Now(),
	}
	var no *refusal
	host, port, err := parseTarget(nc.ExtraData())
	if err != nil {
		no = refuse(RefusedRequest, "%v", err)
	} else {
		record.Target = printable(net.JoinHostPort(host, portText(port)))
		record.Dialled, no = s.config().policy.allow(host, port)
	}
	if no == nil {
		no = c.claim(record.Dialled)
	}
	if no != nil {
		record.Dialled = netip.Addr{}
		_ = nc.Reject(ssh.Prohibited, no.text)
		if no.end == RefusedTarget || no.end == RefusedPort {
			s.admission.penalize(c.from.Addr(), penaltyRefused)
		}
		c.audit(record, no.end)
		c.refused(no.end)
		return
	}
	c.channels.Go(func() {
		defer c.release()
		c.relay(nc, record)
	})
}

// claim counts a channel. After nil, release has to be called once.
func (c *conn) claim(to netip.Addr) *refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit := c.server.config().Limits.ChannelsPerConn; c.count >= limit {
		return refuse(RefusedCount, "more than %d channels in one connection", limit)
	}
	if no := c.server.admission.dial(c.from.Addr(), to); no != nil {
		return no
	}
	c.count++
	c.empty.Store(0)
	return nil
}

func (c *conn) release() {
	c.server.admission.hangUp()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.count == 0 {
		c.empty.Store(time.Now().UnixNano())
	}
}

// relay connects to the VM and carries bytes until either side has enough.
func (c *conn) relay(nc ssh.NewChannel, record *Record) {
	s := c.server
	vm, err := s.dial(record.Dialled)
	record.Dial = time.Since(record.Start)
	if err != nil {
		// One answer for all: who asks learns nothing of the network.
		_ = nc.Reject(ssh.ConnectionFailed, "connect failed")
		c.ended(record, DialFailed)
		return
	}
	s.dials.observe(record.Dial)
	defer vm.Close()
	channel, requests, err := nc.Accept()
	if err != nil {
		c.ended(record, c.reason(Finished))
		return
	}
	r := &relay{conn: c, channel: channel, vm: vm, stall: s.config().Timeouts.Stall, sent: make(chan struct{}), closed: make(chan struct{})}
	r.last.Store(time.Now().UnixNano())
	r.in, r.errors = c.wire.backlog.add(r.stuck), c.wire.backlog.add(r.stuck)
	go r.answer(requests)
	go r.errors.discard(channel.Stderr())
	c.mu.Lock()
	c.relays[r] = record
	c.mu.Unlock()
	// The connection may have ended before it knew of this relay.
	if e := c.reason(Running); e != Running {
		r.close(e)
	}
	r.run()
	c.mu.Lock()
	delete(c.relays, r)
	c.mu.Unlock()
	record.Up, record.Down = r.up.Load(), r.down.Load()
	s.up.Add(record.Up)
	s.down.Add(record.Down)
	c.ended(record, r.end)
	r.linger()
}

// dialAddress is what the resolver has nothing to look up in.
func dialAddress(to netip.Addr) string { return netip.AddrPortFrom(to, sshPort).String() }

// dial connects to a VM.
func (s *Server) dial(to netip.Addr) (*net.TCPConn, error) {
	config := s.config()
	t := &config.Timeouts
	ctx, cancel := context.WithTimeout(context.Background(), t.Dial)
	defer cancel()
	often := max(time.Second, min(t.Keepalive, time.Hour)) // what the kernel takes
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: often, Interval: often, Count: keepalives}}
	var c net.Conn
	err := config.within(func() (err error) {
		c, err = d.DialContext(ctx, "tcp6", dialAddress(to))
		return err
	})
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn)
	// Reached ourselves after all: an address that was not there a moment ago.
	if addrPort(tcp.LocalAddr()).Addr() == to {
		tcp.Close()
		return nil, errors.New("own address")
	}
	return tcp, nil
}

// ended counts a channel that came as far as being dialled for.
func (c *conn) ended(r *Record, end End) {
	c.server.channels[end].Add(1)
	c.audit(r, end)
}

// audit tells of a channel that has ended.
func (c *conn) audit(r *Record, end End) {
	r.End, r.Took = end, time.Since(r.Start)
	if c.server.config().Audit != nil {
		c.server.config().Audit(*r)
	}
}

// watch ends what has timed out, and asks clients that have been silent whether
// they are still there.
func (c *conn) watch() {
	t := &c.server.config().Timeouts
	if since := c.empty.Load(); since != 0 && time.Since(time.Unix(0, since)) > t.Unused {
		c.end(Idled)
		return
	}
	var open []*relay
	c.mu.Lock()
	for r := range c.relays {
		open = append(open, r)
	}
	c.mu.Unlock()
	for _, r := range open {
		r.watch(t)
	}
	// Also of a connection that is not read because nothing comes.
	c.wire.backlog.estimate(c.wire.read.Load())
	silent := c.wire.silent()
	switch {
	case silent > t.Keepalive && c.asking.CompareAndSwap(false, true):
		// Waits for an answer, or for the end of the connection.
		go func() {
			_, _, _ = c.ssh.SendRequest("keepalive@openssh.com", true, nil)
			c.asking.Store(false)
		}()
	case silent > keepalives*t.Keepalive:
		c.end(ClientGone)
	}
}

func (c *conn) session() Session {
	s := Session{ID: c.id, Source: c.from, Version: c.version, Who: c.who, Start: c.start}
	c.mu.Lock()
	defer c.mu.Unlock()
	for r, record := range c.relays {
		s.Channels = append(s.Channels, Channel{Target: record.Dialled, Start: record.Start, Up: r.up.Load(), Down: r.down.Load()})
	}
	return s
}

// bytes are those of the channels that are open.
func (c *conn) bytes() (up, down uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.relays {
		up += r.up.Load()
		down += r.down.Load()
	}
	return up, down
}

// closed tells whether an error says no more than that the peer has gone.
func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrDeadlineExceeded)
}
