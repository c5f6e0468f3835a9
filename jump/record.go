package jump

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// End is how a channel, or the wish for one, came to its end.
type End uint8

// What may become of a channel. The zero value is no end.
const (
	Running End = iota
	Finished
	ClientGone
	VMGone
	Stalled
	Idled
	Killed
	Drained
	DialFailed
	RefusedRequest
	RefusedTarget
	RefusedPort
	RefusedOptOut
	RefusedRate
	RefusedCount
	RefusedType
	Help
	ends
)

// word is how logs and metrics call something, and what that means.
type word struct{ name, doc string }

var endWords = [ends]word{
	Running:        {"running", "Still open."},
	Finished:       {"finished", "Closed by the client, or by both sides."},
	ClientGone:     {"client_gone", "The client does not answer, or sends what it has said it would not."},
	VMGone:         {"vm_gone", "The VM's connection broke."},
	Stalled:        {"stalled", "A side took nothing for too long, or the client sent more than anybody takes."},
	Idled:          {"idle", "No byte for too long."},
	Killed:         {"killed", "Ended by an operator."},
	Drained:        {"drained", "The server stopped."},
	DialFailed:     {"dial_failed", "The VM does not answer, or refuses."},
	RefusedRequest: {"refused_request", "A request that is malformed, or for what this server does not do."},
	RefusedTarget:  {"refused_target", "No address of a VM."},
	RefusedPort:    {"refused_port", "Another port than 22."},
	RefusedOptOut:  {"refused_opt_out", "The VM's owner does not want it (vm_opt_out)."},
	RefusedRate:    {"refused_rate", "More VMs, or connections to one VM, than a source may ask for in a minute."},
	RefusedCount:   {"refused_count", "More than a connection, or the server, may have at a time."},
	RefusedType:    {"refused_type", "A kind of channel that this server does not have."},
	Help:           {"help", "A shell, command or subsystem: told what to do instead."},
}

// String is the word that logs and metrics use.
func (e End) String() string { return endWords[e].name }

// Doc is what it means.
func (e End) Doc() string { return endWords[e].doc }

// Ends are all that a channel can come to.
func Ends() []End {
	list := make([]End, 0, ends-1)
	for e := Running + 1; e < ends; e++ {
		list = append(list, e)
	}
	return list
}

// Refused tells whether the channel was never opened.
func (e End) Refused() bool { return e >= DialFailed && e != Help }

// Login is what became of a connection on its way to being let in.
type Login uint8

// What may become of a connection.
const (
	LoggedIn Login = iota
	LoginFailed
	LoginTimeout
	LoginGone
	LoginDropped
	LoginSource
	LoginPenalty
	LoginNoHeader
	logins
)

var loginWords = [logins]word{
	LoggedIn:      {"ok", "Let in."},
	LoginFailed:   {"failed", "A broken handshake, no algorithm in common, or a wrong user, key or token."},
	LoginTimeout:  {"timeout", "Too slow."},
	LoginGone:     {"gone", "The client went away."},
	LoginDropped:  {"dropped", "Too many that had not logged in, or connections in all."},
	LoginSource:   {"source_full", "Too many connections of this source."},
	LoginPenalty:  {"penalty", "The source has misbehaved lately."},
	LoginNoHeader: {"no_proxy_header", "A load balancer (proxy_from) sent no PROXY header."},
}

// String is the word that logs and metrics use.
func (l Login) String() string { return loginWords[l].name }

// Doc is what it means.
func (l Login) Doc() string { return loginWords[l].doc }

// Logins are all that a connection can come to.
func Logins() []Login {
	list := make([]Login, logins)
	for i := range list {
		list[i] = Login(i)
	}
	return list
}

// Record is one channel, for the audit log.
type Record struct {
	Session uint64         // of the connection, since the server started
	Source  netip.AddrPort // the client
	Version string         // what the client calls itself, in ASCII and not too long
	Who     string         // key or token that let it in; "" for everybody
	Target  string         // as asked for, in ASCII and not too long
	Dialled netip.Addr     // the VM; invalid if it did not come to that
	Start   time.Time
	Took    time.Duration
	Dial    time.Duration // until the VM answered
	Up      uint64        // bytes from the client to the VM
	Down    uint64        // bytes from the VM to the client
	End     End
}

// Session is a connection that is open, for `isthmus status`.
type Session struct {
	ID       uint64         `json:"id"`
	Source   netip.AddrPort `json:"source"`
	Version  string         `json:"version"`
	Who      string         `json:"who,omitempty"`
	Start    time.Time      `json:"start"`
	Channels []Channel      `json:"channels"`
}

// Channel is a relay that is open.
type Channel struct {
	Target netip.Addr `json:"target"`
	Start  time.Time  `json:"start"`
	Up     uint64     `json:"up"`
	Down   uint64     `json:"down"`
}

// Stats are sums since the server started, and what is open now.
type Stats struct {
	Logins      [logins]uint64
	Channels    [ends]uint64
	Up, Down    uint64 // bytes of channels
	Dials       DialTimes
	Connections int // open, logged in
	Handshakes  int // open, not logged in
	Open        int // channels
	Sources     int // that are remembered
}

// DialBounds are the upper bounds of DialTimes.Counts.
var DialBounds = [...]time.Duration{
	time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond,
	300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second,
}

// DialTimes is how long VMs took to answer: how many took up to each of
// DialBounds and longer than the bound before, the last beyond all bounds.
type DialTimes struct {
	Counts [len(DialBounds) + 1]uint64
	Sum    time.Duration
}

type dialTimes struct {
	counts [len(DialBounds) + 1]atomic.Uint64
	sum    atomic.Int64
}

func (d *dialTimes) observe(took time.Duration) {
	i := 0
	for i < len(DialBounds) && took > DialBounds[i] {
		i++
	}
	d.counts[i].Add(1)
	d.sum.Add(int64(took))
}

func (d *dialTimes) copy() DialTimes {
	t := DialTimes{Sum: time.Duration(d.sum.Load())}
	for i := range d.counts {
		t.Counts[i] = d.counts[i].Load()
	}
	return t
}
