package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"aarch64.com/isthmus/proxy/relay"
	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/sniff"
)

// tls decides about connections by their ClientHello, and relays them untouched.
type tls struct {
	server *Server
	loops  *relay.Loops
}

// visit is what is known of a connection.
type visit struct {
	hello  sniff.TLS
	host   string
	whose  string        // project
	route  *routes.Route // joined, and to be parted from
	result Result        // if refused
	why    string
}

func openTLS(s *Server, at []netip.AddrPort) (part, error) {
	t := &tls{server: s}
	var err error
	t.loops, err = relay.New(t.config(), at, t)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (t *tls) config() relay.Config { return t.server.relayConfig() }

// relayConfig is what the loops of both HTTPS and HTTP are told.
func (s *Server) relayConfig() relay.Config {
	t := &s.config().Timeouts
	return relay.Config{
		MaxHello:     sniff.MaxWire,
		HelloTimeout: t.Hello, ConnectTimeout: t.Connect, IdleTimeout: t.Idle, KeepTimeout: max(t.KeepOpen-parkAfter, 1),
		UserTimeout: userTimeout,
	}
}

func (t *tls) update() { t.loops.Update(t.config()) }

func (t *tls) shutdown(ctx context.Context) { t.loops.Shutdown(ctx) }

func (t *tls) stats(s *Stats) {
	r := t.loops.Stats()
	s.Accepted, s.Open = r.Accepted, r.Open
	s.AcceptFailed += r.AcceptFailed
	s.Up[TLS], s.Down[TLS] = r.Up, r.Down
}

// Accept implements [relay.Judge].
func (t *tls) Accept(from netip.AddrPort) bool {
	full := t.server.limiter.enter(from.Addr())
	if full == "" {
		return true
	}
	t.server.record(&Record{Protocol: TLS, Client: from, Result: TooMany, Why: full, Start: time.Now()})
	return false
}

// Hello implements [relay.Judge].
func (t *tls) Hello(c *relay.Conn, said []byte) relay.Answer {
	v, _ := c.Tag.(*visit)
	if v == nil {
		v = &visit{}
		c.Tag = v
	}
	h, err := v.hello.ClientHello(said)
	if err == sniff.ErrIncomplete {
		return relay.Answer{Wait: true}
	}
	if reason, ok := err.(sniff.Reason); ok {
		t.server.counts.refused[TLS][reason].Add(1)
		v.result, v.why = BadRequest, reason.Label()
		if reason == sniff.PlainHTTP {
			return relay.Answer{Reply: plainHTTP}
		}
		return relay.Answer{Reply: reason.Alert().Record()}
	}
	v.host = h.Host
	return t.follow(c, v)
}

// follow sends a connection to where its host's route leads at this moment.
func (t *tls) follow(c *relay.Conn, v *visit) relay.Answer {
	d := t.server.follow(v.host)
	v.whose, v.route = d.project, d.route
	if d.result != Served {
		v.result, v.why = d.result, d.why
		return relay.Answer{Reply: d.alert().Record()}
	}
	header, err := proxyHeader(d.route.Header, c.From, c.Local())
	if err != nil {
		v.result, v.why = Unreachable, err.Error()
		return relay.Answer{Reply: sniff.InternalError.Record()}
	}
	return relay.Answer{Backends: d.backends, Header: header}
}

// Unreached implements [relay.Judge].
func (t *tls) Unreached(*relay.Conn) []byte { return sniff.InternalError.Record() }

// Closed implements [relay.Judge].
func (t *tls) Closed(c *relay.Conn) {
	t.server.limiter.leave(c.From.Addr())
	r := &Record{
		Protocol: TLS, Client: c.From, Backend: c.Backend,
		Start: c.Start, Connect: c.Connect, First: c.First, Took: time.Since(c.Start), Up: c.Up, Down: c.Down,
	}
	v, _ := c.Tag.(*visit)
	if v != nil {
		r.Host, r.Project = v.host, v.whose
		if v.route != nil {
			t.server.limiter.part(v.route.Host, v.route.Project)
		}
	}
	r.Result, r.Why = endOf(c)
	if c.End == relay.Refused {
		r.Result, r.Why = v.result, v.why
	}
	t.server.record(r)
}

// endOf says what became of a connection that has been relayed.
func endOf(c *relay.Conn) (r Result, why string) {
	switch {
	case c.End == relay.Finished:
		return Served, ""
	case c.Late:
		return Served, c.End.String()
	}
	return endResults[c.End], c.End.String()
}

// endResults says what a connection's end is to those who do not know sockets.
var endResults = [relay.NumEnds]Result{
	relay.Finished:      Served,
	relay.Unwelcome:     TooMany, // out of descriptors
	relay.HelloTimeout:  SlowUser,
	relay.HelloGone:     BrokenByUser,
	relay.HelloTooLong:  BadRequest,
	relay.ConnectFailed: Unreachable,
	relay.ClientReset:   BrokenByUser,
	relay.BackendReset:  BrokenByVM,
	relay.IdleTimeout:   Idle,
	relay.Killed:        Stopped,
	relay.Drained:       Stopped,
}

// plainHTTP is for browsers that were told http://HOST:443.
var plainHTTP = func() []byte {
	const text = "This port speaks HTTPS, and you sent HTTP. Use an address that begins with https://\n"
	return fmt.Appendf(nil, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
}()
