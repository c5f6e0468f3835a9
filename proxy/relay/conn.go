package relay

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
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
// several goroutines, and must not block: nothing else of the loop goes on
// meanwhile.
type Judge interface {
	// Accept is asked for each new connection: false closes it at once. Every
	// other connection is told to Closed in the end.
	Accept(from netip.AddrPort) bool
	// Hello is asked when the client has said something: hello is all of it so
	// far, and only lent. A client may say it byte by byte, so what has been
	// looked at already is best noted in Conn.Tag.
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
	// Take hands the connection to the judge, which is a [Taker].
	Take bool
}

// Conn is a connection. It belongs to a loop: only the judge's methods and the
// function given to [Loops.Each] may touch it, while they run.
type Conn struct {
	ID   uint64         // no other connection of these Loops has or had it
	From netip.AddrPort // the client
	Tag  any            // the judge's

	Start   time.Time
	Connect time.Duration  // from Start until a backend was connected; 0: none was
	First   time.Duration  // from Start until the backend's first byte; 0: none came
	Backend netip.AddrPort // the last that was tried
	Up      uint64         // bytes from the client to the backend
	Down    uint64         // bytes from the backend to the client
	End     End
	// Late: a side broke when the other had said its end and all of that had been
	// passed on. Programs that have what they wanted close like this, with
	// something unread.
	Late bool

	to       netip.AddrPort
	listener *listener

	slot  int32
	stage stage
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
//
// What readable and writable say is a hint: true means no more than that it is
// worth trying. So an event that comes late, or for a socket that has had the
// number before, does no harm.
type side struct {
	fd       int
	watched  uint32 // the events that epoll tells; 0: not yet in epoll
	readable bool   // false: an event will tell
	writable bool   // false: an event will tell
	hasty    bool   // a short read does not mean that all has been read
	urgent   bool   // there was urgent data, at which splice(2) stops for good
	eof      bool   // all has been read
	shut     bool   // no more is written to it
	broken   bool   // a write failed: what has come is still read, then that is it
	complete bool   // it is broken, but its end had come before

	// What waits to be written to it: one of the two, at most.
	out  []byte
	pipe *pipe

	usual int // bytes that a read gives, a moving average
}

func (s *side) pending() bool { return len(s.out) > 0 || s.pipe != nil && s.pipe.n > 0 }

// saidAll tells whether a side has said its end, and all before it has been read. The
// end that is read after a break is not its own.
func (s *side) saidAll() bool { return s.eof && (s.complete || !s.broken) }

// ends tells whether a side has said its end, or will with the next read.
func (s *side) ends() bool {
	if s.eof || s.broken {
		return s.saidAll()
	}
	var b [1]byte
	n, _, err := unix.Recvfrom(s.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n == 0 && err == nil
}

// Since is how long ago bytes moved last, for the function given to Loops.Each.
func (c *Conn) Since() time.Duration { return time.Duration(nanotime() - c.moved) }

// Relaying tells whether a backend has been connected.
func (c *Conn) Relaying() bool { return c.stage == relaying }
