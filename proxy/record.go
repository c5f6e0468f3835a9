package proxy

import (
	"net/netip"
	"time"
)

// Protocol is how a visitor came.
type Protocol uint8

// Protocols.
const (
	HTTP1 Protocol = iota
	HTTP2
	Upgraded // WebSocket and others, after HTTP/1.1's 101
	TLS
	QUIC
	NumProtocols
)

var protocolNames = [NumProtocols]string{"http1", "http2", "upgraded", "tls", "quic"}

// String is the word that logs and metrics use.
func (p Protocol) String() string { return protocolNames[p] }

// Result is what became of a request or connection.
type Result uint8

// Results.
const (
	Served       Result = iota // to the end
	BadRequest                 // no HTTP, or HTTP that could be read in two ways; no TLS or a broken hello
	NoName                     // no Host header, no SNI
	UnknownHost                // no route, or none for this protocol
	Forbidden                  // the route leads where it may not
	Unreachable                // no backend takes the connection
	SlowBackend                // it took the connection and did not answer
	BrokenByVM                 // its connection broke in the middle
	BrokenByUser               // the visitor's
	SlowUser                   // the visitor did not say enough in time, or took nothing
	Idle                       // no byte for too long
	TooMany                    // a limit
	Loop                       // the request has been here before
	Misdirected                // another host than the connection's (RFC 9110 15.5.20)
	Stopped                    // the server ended
	NumResults
)

var resultNames = [NumResults]string{
	"served", "bad_request", "no_name", "unknown_host", "forbidden", "unreachable", "slow_backend", "broken_by_vm",
	"broken_by_user", "slow_user", "idle", "too_many", "loop", "misdirected", "stopped",
}

// String is the word that logs and metrics use.
func (r Result) String() string { return resultNames[r] }

var resultDocs = [NumResults]string{
	"To the end.",
	"No HTTP, or HTTP that could be read in two ways; no TLS, or a broken hello.",
	"No Host header, no server name in TLS.",
	"No route for this name and protocol.",
	"The route leads where the proxy may not connect to.",
	"No VM of the route takes the connection.",
	"The VM took the connection and did not answer in time.",
	"The VM's connection broke in the middle.",
	"The visitor's connection broke.",
	"The visitor did not say enough in time, or took nothing.",
	"No byte for too long.",
	"A limit.",
	"The request has been through this proxy before.",
	"Another host than the connection's (RFC 9110 section 15.5.20).",
	"The proxy ended.",
}

// Doc says what it means.
func (r Result) Doc() string { return resultDocs[r] }

// Record is one request, or one connection of TLS or QUIC.
type Record struct {
	ID       string // for visitors and operators to talk about; "" where none was shown
	Protocol Protocol
	Client   netip.AddrPort
	Host     string // canonical; "" if unknown
	Project  string
	Backend  netip.AddrPort // the last that was tried
	Result   Result
	Why      string // a word on the result, for operators

	Start   time.Time
	Connect time.Duration // until the backend was connected; 0: it was not, or was before
	First   time.Duration // until the first byte of its answer; 0: none came
	Took    time.Duration
	Up      uint64 // bytes to the backend, bodies only for HTTP
	Down    uint64

	// Of HTTP only.
	Method string
	Path   string // without the query, which may hold secrets
	Status int
}
