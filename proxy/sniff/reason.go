package sniff

import "errors"

// ErrIncomplete says that the bytes so far are the beginning of something that
// may become a ClientHello.
var ErrIncomplete = errors.New("the hello is not complete yet")

// Reason is why there is no host name in what a client said. It is an error;
// compare with ==.
type Reason uint8

// Reasons.
const (
	NotTLS             Reason = iota // nothing that is known
	PlainHTTP                        // an HTTP request, or the preface of HTTP/2
	SSLv2                            // RFC 5246 appendix E.2
	RecordType                       // RFC 8446 section 5.1: no handshake record
	RecordVersion                    // a major version other than 3
	RecordEmpty                      // RFC 8446 section 5.1: zero-length handshake fragments
	RecordOverflow                   // RFC 8446 section 5.1: more than 2^14 bytes
	NotClientHello                   // another handshake message
	TooLong                          // more than MaxHello, MaxWire, MaxCrypto or MaxInitials
	Malformed                        // lengths that do not fit
	DuplicateExtension               // RFC 8446 section 4.2
	SeveralNames                     // RFC 6066 section 3
	BadName                          // no host name, see Host
	AddressName                      // RFC 6066 section 3: an IP address is no host name

	// Of QUIC. For the first ones see Stray.
	QUICNotInitial // RFC 9000 section 17.2.2: no Initial packet in the datagram
	QUICSmall      // RFC 9000 section 14.1: an Initial in less than 1200 bytes
	QUICVersion    // RFC 9000 section 6: answer with VersionNegotiation
	QUICHeader     // RFC 9000 section 17.2: lengths that do not fit
	QUICSealed     // RFC 9001 section 5.2: the seal is not the client's
	QUICOther      // RFC 9000 section 7.2: another connection id or version than before
	QUICFrame      // RFC 9000 section 12.4: malformed, or not allowed in Initial packets
	QUICConflict   // RFC 9000 section 2.2: other bytes at the same place
	QUICClosed     // RFC 9000 section 10.2.3: the client has given up
	NumReasons
)

var reasons = [NumReasons]struct {
	label, text string
	alert       Alert
}{
	NotTLS:             {"not_tls", "the first bytes are not TLS", UnexpectedMessage},
	PlainHTTP:          {"plain_http", "HTTP without TLS", UnexpectedMessage},
	SSLv2:              {"sslv2", "a hello of SSL 2", ProtocolVersion},
	RecordType:         {"record_type", "a record that is no handshake, before the end of the hello", UnexpectedMessage},
	RecordVersion:      {"record_version", "a record with a major version other than 3", ProtocolVersion},
	RecordEmpty:        {"record_empty", "a handshake record without bytes", UnexpectedMessage},
	RecordOverflow:     {"record_overflow", "a record longer than 16384 bytes", RecordOverflowed},
	NotClientHello:     {"not_client_hello", "the first message is no ClientHello", UnexpectedMessage},
	TooLong:            {"too_long", "the hello is too long", InternalError},
	Malformed:          {"malformed", "the hello's lengths do not fit each other", DecodeError},
	DuplicateExtension: {"duplicate_extension", "an extension comes twice", IllegalParameter},
	SeveralNames:       {"several_names", "more than one host name", IllegalParameter},
	BadName:            {"bad_name", "not a host name", UnrecognizedName},
	AddressName:        {"address_name", "an IP address where a host name belongs", UnrecognizedName},
	QUICNotInitial:     {"quic_not_initial", "no Initial packet", UnexpectedMessage},
	QUICSmall:          {"quic_small", "an Initial packet in a datagram of less than 1200 bytes", UnexpectedMessage},
	QUICVersion:        {"quic_version", "a version of QUIC that is not known", UnexpectedMessage},
	QUICHeader:         {"quic_header", "a packet header whose lengths do not fit", UnexpectedMessage},
	QUICSealed:         {"quic_sealed", "an Initial packet that does not decrypt", UnexpectedMessage},
	QUICOther:          {"quic_other", "a packet of another connection", UnexpectedMessage},
	QUICFrame:          {"quic_frame", "a frame that does not belong into an Initial packet", UnexpectedMessage},
	QUICConflict:       {"quic_conflict", "a hello that was sent with different bytes", UnexpectedMessage},
	QUICClosed:         {"quic_closed", "the client closed the connection", UnexpectedMessage},
}

// Error says it in words.
func (r Reason) Error() string { return reasons[r].text }

// Label is the word for metrics.
func (r Reason) Label() string { return reasons[r].label }

// Stray tells that a datagram is none of the connection's: it is dropped and
// changes nothing, and the next one may be good.
func (r Reason) Stray() bool { return QUICNotInitial <= r && r <= QUICOther }

// Alert is what a TLS client is to be told; one of QUIC, where the reason is
// not about the datagram alone, see [Refuse].
func (r Reason) Alert() Alert { return reasons[r].alert }

// Alert is the description in a TLS alert (RFC 8446 section 6).
type Alert uint8

// Alerts that a proxy has use for.
const (
	UnexpectedMessage Alert = 10
	RecordOverflowed  Alert = 22
	HandshakeFailure  Alert = 40
	IllegalParameter  Alert = 47
	DecodeError       Alert = 50
	ProtocolVersion   Alert = 70
	InternalError     Alert = 80
	UnrecognizedName  Alert = 112
)

// TransportError is why a QUIC connection is closed (RFC 9000 section 20.1).
type TransportError uint16

// ConnectionRefused says that the server does not take the connection.
const ConnectionRefused TransportError = 0x02

// TransportError is the alert in QUIC, a CRYPTO_ERROR (RFC 9001 section 4.8).
func (a Alert) TransportError() TransportError { return 0x100 + TransportError(a) }

// Record is a fatal alert as a record in the clear, for a connection on which
// the server has said nothing else. Its version is TLS 1.2's, which clients of
// every version take here (RFC 8446 section 5.1).
func (a Alert) Record() []byte {
	const fatal = 2
	return []byte{recordAlert, 3, 3, 0, 2, fatal, byte(a)}
}
