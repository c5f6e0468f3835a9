package jump

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/crypto/ssh"
)

// DefaultUser is the name that clients log in with.
const DefaultUser = "jump"

// Config is what a [Server] is told. Reach, VMPrefixes and HostKeys are required;
// the zero value of all else is its default.
type Config struct {
	// Reach says whether an address is a VM's. Its error goes to the client.
	Reach func(netip.Addr) error
	// VMPrefixes are where VMs are, for the example that users are shown.
	VMPrefixes []netip.Prefix
	// OptOut are VMs that don't want to be reached through this server.
	OptOut []netip.Prefix

	User string // DefaultUser
	Host string // this server's name in texts for users; "": the address they came to

	// HostKeys prove who this server is, one per key type.
	HostKeys []ssh.Signer
	// NextKeys are announced to clients beside HostKeys, so that they know them
	// before HostKeys change (hostkeys-00@openssh.com).
	NextKeys []ssh.Signer

	// Access says who is let in; its zero value is everybody.
	Access Access

	// ProxyFrom are load balancers whose PROXY header is believed, and needed.
	ProxyFrom []netip.Prefix

	Limits   Limits
	Timeouts Timeouts

	// Audit is told of each channel when it has ended, and of each refused one.
	// It is called from many goroutines.
	Audit func(Record)
	// Log gets what an operator should know.
	Log func(warn bool, message string)

	// within runs what needs the network of the VMs. Tests have that in another
	// namespace.
	within func(fn func() error) error
	// catchUp is how long a connection is not read for the sake of slow
	// channels. Tests have no time for the default.
	catchUp time.Duration
}

// Access lets in whom one of its functions knows. They return a name for the
// audit log.
type Access struct {
	Key   func(ssh.PublicKey) (who string, ok bool)
	Token func(token []byte) (who string, ok bool) // sent as a password
}

func (a Access) everybody() bool { return a.Key == nil && a.Token == nil }

// Limits bound what clients can use. 0 stands for the default, less than 0 for
// no bound. A source is an IPv4 address or an IPv6 /64.
type Limits struct {
	Handshakes int // that are worked on at once; 4 per CPU
	// Of the connections that have not logged in yet: from Start on new ones
	// are dropped at random, more and more, and all from Full on.
	Start, Full int // 100, 1000

	Connections          int // 10000
	ConnectionsPerSource int // 64
	ChannelsPerConn      int // 64
	Channels             int // 20000

	TargetsPerMinute int // distinct VMs that one source may connect to; 60
	DialsPerMinute   int // connections from one source to one VM; 60

	RefusalsPerConn int // channels and requests refused before the connection is closed; 32

	// Exempt sources are bound by nothing that counts sources.
	Exempt []netip.Prefix
}

// Timeouts end what does not get on. 0 stands for the default, less than 0 for
// never.
type Timeouts struct {
	Login     time.Duration // until a client is logged in; 20 s
	Dial      time.Duration // until a VM answers; 10 s
	Unused    time.Duration // a connection without a channel; 2 min
	Idle      time.Duration // a channel without a byte; 24 h
	Stall     time.Duration // a peer that accepts nothing; 5 min
	Keepalive time.Duration // between questions to a silent client; 1 min, and gone after three
}

func (l *Limits) setDefaults() {
	count := func(value *int, def int) { setDefault(value, def, math.MaxInt32) }
	count(&l.Handshakes, 4*runtime.GOMAXPROCS(0))
	count(&l.Start, 100)
	count(&l.Full, 1000)
	count(&l.Connections, 10_000)
	count(&l.ConnectionsPerSource, 64)
	count(&l.ChannelsPerConn, 64)
	count(&l.Channels, 20_000)
	count(&l.TargetsPerMinute, 60)
	count(&l.DialsPerMinute, 60)
	count(&l.RefusalsPerConn, 32)
}

func (t *Timeouts) setDefaults() {
	after := func(value *time.Duration, def time.Duration) { setDefault(value, def, never) }
	after(&t.Login, 20*time.Second)
	after(&t.Dial, 10*time.Second)
	after(&t.Unused, 2*time.Minute)
	after(&t.Idle, 24*time.Hour)
	after(&t.Stall, 5*time.Minute)
	after(&t.Keepalive, time.Minute)
}

// never is late enough that no comparison has to know a special value, and early
// enough to be multiplied.
const never = 30 * 365 * 24 * time.Hour

func setDefault[T int | time.Duration](value *T, def, unbounded T) {
	switch {
	case *value == 0:
		*value = def
	case *value < 0:
		*value = unbounded
	}
}

var errNoPrefixes = errors.New("no VM prefixes: the jump server would reach nothing (set vm_prefixes in [jump])")

// Check tells what the configuration lacks, or nil.
func (c *Config) Check() error {
	if len(c.VMPrefixes) == 0 {
		return errNoPrefixes
	}
	if c.Reach == nil {
		return errors.New("the jump server needs a rule for what may be reached")
	}
	if len(c.HostKeys) == 0 {
		return errors.New("no host key: make one with Keys")
	}
	for _, list := range [][]netip.Prefix{c.VMPrefixes, c.OptOut} {
		for _, p := range list {
			if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() {
				return fmt.Errorf("%v is no IPv6 prefix", p)
			}
		}
	}
	return nil
}
