package jump

import (
	"crypto/rand"

	"golang.org/x/crypto/ssh"
)

// Names of OpenSSH's host key rotation (PROTOCOL section 2.5): the server tells
// its keys after the client has logged in; a client that is asked to remember
// them wants a proof for those it does not know.
const (
	announceRequest = "hostkeys-00@openssh.com"
	proveRequest    = "hostkeys-prove-00@openssh.com"
)

// announced are the keys of now and of later.
func (s *Server) announced() []ssh.Signer {
	return append(append([]ssh.Signer(nil), s.config.HostKeys...), s.config.NextKeys...)
}

// announceKeys tells the client all keys. Certificates are not among them: they
// are proved by their authority.
func (s *Server) announceKeys(c ssh.Conn) {
	var payload []byte
	for _, k := range s.announced() {
		if _, certified := k.PublicKey().(*ssh.Certificate); !certified {
			payload = appendString(payload, k.PublicKey().Marshal())
		}
	}
	// An error is the connection's end, which shows elsewhere.
	_, _, _ = c.SendRequest(announceRequest, false, payload)
}

// proveKeys signs for each key that the client asks for. One that is not ours
// fails the whole request, as in OpenSSH. The number of keys is small, and each
// is signed for once: the count of keys bounds what a request costs.
func (s *Server) proveKeys(c *ssh.ServerConn, r *ssh.Request) {
	var proofs []byte
	signed := map[string]bool{}
	for rest := r.Payload; len(rest) > 0; {
		blob, tail, ok := cutString(rest)
		if !ok || signed[string(blob)] {
			_ = r.Reply(false, nil)
			return
		}
		rest = tail
		signed[string(blob)] = true
		proof, err := s.prove(c.SessionID(), blob)
		if err != nil {
			_ = r.Reply(false, nil)
			return
		}
		proofs = appendString(proofs, proof)
	}
	_ = r.Reply(proofs != nil, proofs)
}

func (s *Server) prove(session, blob []byte) ([]byte, error) {
	for _, k := range s.announced() {
		if string(k.PublicKey().Marshal()) != string(blob) {
			continue
		}
		data := appendString(nil, []byte(proveRequest))
		data = appendString(data, session)
		data = appendString(data, blob)
		signature, err := k.Sign(rand.Reader, data)
		if err != nil {
			return nil, err
		}
		return ssh.Marshal(signature), nil
	}
	return nil, errAccess
}

// appendString appends a string with its length (RFC 4251 section 5).
func appendString(to, s []byte) []byte {
	n := len(s)
	to = append(to, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	return append(to, s...)
}
