package jump

import (
	"bytes"
	"crypto/rand"
	"errors"

	"golang.org/x/crypto/ssh"
)

// Names of OpenSSH's host key rotation (PROTOCOL section 2.5): the server tells
// its keys after the client has logged in; a client that is asked to remember
// them wants a proof for those it does not know.
const (
	announceRequest = "hostkeys-00@openssh.com"
	proveRequest    = "hostkeys-prove-00@openssh.com"
)

// announced are the keys of now and of later, each once: clients take no notice
// of a list with a double. Certificates are not among them: their authority
// proves them.
func (n *settings) announced() []ssh.Signer {
	var list []ssh.Signer
	for _, keys := range [][]ssh.Signer{n.HostKeys, n.NextKeys} {
		for _, k := range keys {
			_, certified := k.PublicKey().(*ssh.Certificate)
			if !certified && signerOf(list, k.PublicKey().Marshal()) == nil {
				list = append(list, k)
			}
		}
	}
	return list
}

// signerOf finds the key with this public half, or nil.
func signerOf(list []ssh.Signer, blob []byte) ssh.Signer {
	for _, k := range list {
		if bytes.Equal(k.PublicKey().Marshal(), blob) {
			return k
		}
	}
	return nil
}

// announceKeys tells the client all keys.
func (s *Server) announceKeys(c ssh.Conn) {
	var payload []byte
	for _, k := range s.config().announced() {
		payload = appendString(payload, k.PublicKey().Marshal())
	}
	// An error is the connection's end, which shows elsewhere.
	_, _, _ = c.SendRequest(announceRequest, false, payload)
}

// proveKeys signs for each key that the client asks for. One that is not ours
// fails the whole request, as in OpenSSH. A client needs the proof of a key once
// at most: more would be signatures, the dearest thing here, for nothing.
func (c *conn) proveKeys(r *ssh.Request) {
	proofs, err := c.proofs(r.Payload)
	_ = r.Reply(err == nil, proofs)
	if err != nil {
		c.refused(RefusedRequest)
	}
}

var errProof = errors.New("no key to prove")

func (c *conn) proofs(payload []byte) (proofs []byte, err error) {
	keys := c.server.config().announced()
	for rest := payload; len(rest) > 0; {
		blob, tail, ok := cutString(rest)
		if !ok || c.proved[string(blob)] {
			return nil, errProof
		}
		rest = tail
		k := signerOf(keys, blob)
		if k == nil {
			return nil, errProof
		}
		c.proved[string(blob)] = true
		data := appendString(nil, []byte(proveRequest))
		data = appendString(data, c.ssh.SessionID())
		signature, err := k.Sign(rand.Reader, appendString(data, blob))
		if err != nil {
			return nil, err
		}
		proofs = appendString(proofs, ssh.Marshal(signature))
	}
	if proofs == nil {
		return nil, errProof
	}
	return proofs, nil
}

// appendString appends a string with its length (RFC 4251 section 5).
func appendString(to, s []byte) []byte {
	n := len(s)
	to = append(to, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	return append(to, s...)
}
