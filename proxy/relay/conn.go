package relay

import (
	"net/netip"
	"time"
)

// End is how a connection came to its end.
type End uint8

// Ends.
const (
	Running       End = iota
	Finished          // both sides closed
	Refused           // the judge's answer, after the hello
	Unwelcome         // the judge's answer, before
	HelloTimeout      // the client did not say enough in time
	HelloGone         // the client went before it had
	HelloTooLong      // more than Config.MaxHello bytes, and the judge wants more
	ConnectFailed     // no backend takes the connection
	ClientReset       // the client's connection broke
	BackendReset      // the backend's
	IdleTimeout       // no byte for too long
	Killed            // Loops.Kill
	Drained           // Loops.Shutdown
	NumEnds
)

var endNames = [NumEnds]string{
	"running", "finished", "refused", "unwelcome", "hello_timeout", "hello_gone", "hello_too_long", "connect_failed",
	"client_reset", "backend_reset", "idle_timeout", "killed", "drained",
}

// String is the word that logs and metrics use.
func (e End) String() string { return endNames[e] }

// A Judge decides about connections. Its methods are called by the loops, from
// several goroutines, and must not block.
type Judge interface {
	// Accept is asked for each new connection: false closes it at once. Every
	// other connection is told to Closed in the end.
	Accept(from netip.AddrPort) bool
	// Hello is asked when the client has said something: hello is all of it so
	// far, and only lent.
	Hello(c *Conn, hello []byte) Answer
	// Unreached gives what the client gets when no backend could be reached.
	Unreached(c *Conn) (reply []byte)
	// Closed tells that a connection has ended.
	Closed(c *Conn)
}

// Answer is what becomes of a connection.
type Answer struct {
	// Wait asks for more of the hello.
	Wait bool
	// Backends are tried in this order. None: the client gets Reply, and that
	// is it.
	Backends []netip.AddrPort
	Reply    []byte
	// Header goes to the backend first (PROXY protocol).
	Header []byte
}

// Conn is a connection. Outside of the judge's methods nothing of it may be
// touched, for it belongs to a loop.
type Conn struct {
	From netip.AddrPort // the client
	To   netip.AddrPort // the address it came to
	Tag  any            // the judge's

	Start   time.Time
	Connect time.Duration  // until a backend was connected; 0: none was
	First   time.Duration  // until the backend's first byte; 0: none came
	Backend netip.AddrPort // the last that was tried
	Up      uint64         // bytes from the client to the backend
	Down    uint64         // bytes from the backend to the client
	End     End

	loop  *loop
	stage stage
	slot  int32
	again bool // in loop.ready

	client, backend side

	hello    []byte // what the client has said, until a backend has it
	header   []byte
	backends []netip.AddrPort // not tried yet

	moved int64 // when a byte moved, in the loop's clock
	timer timer
}

type stage uint8

const (
	sniffing stage = iota
	connecting
	relaying
	closing // a last reply is on its way to the client
	gone
)

// side is one of a connection's two sockets.
type side struct {
	fd       int
	readable bool // as far as is known
	writable bool
	hangup   bool // the peer has closed: the end of what can be read comes
	eof      bool // it has come
	shut     bool // no more can be written

	// What waits to be written to it.
	out  []byte
	pipe *pipe

	usual int // bytes that a read gives, a moving average
}

func (s *side) pending() bool { return len(s.out) > 0 || s.pipe != nil && s.pipe.n > 0 }
