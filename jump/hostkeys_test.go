package jump

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// knows tells which keys the client's known_hosts has.
func (w *world) knows(keys ...ssh.Signer) bool {
	w.t.Helper()
	content, err := os.ReadFile(w.file("known_hosts"))
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	for _, k := range keys {
		if !bytes.Contains(content, bytes.TrimSpace(ssh.MarshalAuthorizedKey(k.PublicKey()))) {
			return false
		}
	}
	return true
}

// OpenSSH learns the next key while the old one is in use, and so is asked
// nothing when they change. It forgets the old one then.
func TestHostKeyRotation(t *testing.T) {
	labtest.NeedProgram(t, "ssh", "openssh-client")
	now, next := newKey(t), newKey(t)
	var config Config
	w := newWorld(t, func(c *Config) {
		c.HostKeys, c.NextKeys = []ssh.Signer{now}, []ssh.Signer{next}
		config = *c
	})
	w.sshConfig()
	// On the first contact OpenSSH only notes the key that it sees.
	w.ssh("jump@" + jump4)
	if !w.knows(now) {
		t.Fatal("the client does not know the key after the first contact")
	}
	session := func() (end func()) {
		cmd := w.background("ssh", "-F", w.file("ssh_config"), "-o", "UpdateHostKeys=yes", "-o", "StrictHostKeyChecking=yes",
			"-o", "LogLevel=VERBOSE", "-N", "jump@"+jump4)
		return func() { _ = cmd.Process.Kill() }
	}
	end := session()
	w.wait("the client knows both keys", func() bool { return w.knows(now, next) })
	end()

	config.HostKeys, config.NextKeys = []ssh.Signer{next}, nil
	must(t, w.server.Update(config))
	end = session()
	w.wait("the client has forgotten the old key", func() bool { return w.knows(next) && !w.knows(now) })
	end()
}

// A signature for a host key is given once for each key of a connection, and for
// no other key.
func TestProof(t *testing.T) {
	now, next := newKey(t), newKey(t)
	w := newWorld(t, func(c *Config) { c.HostKeys, c.NextKeys = []ssh.Signer{now}, []ssh.Signer{next} })
	raw, err := w.client.Dial(t.Context(), "tcp", jump4+":22")
	must(t, err)
	var session []byte
	c, channels, requests, err := ssh.NewClientConn(raw, "jump", &ssh.ClientConfig{User: "jump", HostKeyCallback: ssh.FixedHostKey(now.PublicKey())})
	must(t, err)
	defer c.Close()
	session = c.SessionID()
	announced := <-requests
	if announced.Type != announceRequest {
		t.Fatalf("got the request %s", announced.Type)
	}
	go func() {
		for range channels {
		}
	}()
	go ssh.DiscardRequests(requests)
	if want := appendString(appendString(nil, now.PublicKey().Marshal()), next.PublicKey().Marshal()); !bytes.Equal(announced.Payload, want) {
		t.Error("announced other keys")
	}
	ask := func(keys ...ssh.Signer) (bool, []byte) {
		t.Helper()
		var payload []byte
		for _, k := range keys {
			payload = appendString(payload, k.PublicKey().Marshal())
		}
		ok, answer, err := c.SendRequest(proveRequest, true, payload)
		must(t, err)
		return ok, answer
	}
	if ok, _ := ask(newKey(t)); ok {
		t.Error("proved a key that is none of the server's")
	}
	if ok, _ := ask(); ok {
		t.Error("proved nothing")
	}
	if ok, _, err := c.SendRequest(proveRequest, true, []byte{0, 0, 1}); ok || err != nil {
		t.Errorf("a malformed request: %v, %v", ok, err)
	}
	ok, answer := ask(next)
	if !ok {
		t.Fatal("the next key is not proved")
	}
	blob, rest, whole := cutString(answer)
	var signature ssh.Signature
	if !whole || len(rest) > 0 || ssh.Unmarshal(blob, &signature) != nil {
		t.Fatalf("answer %x", answer)
	}
	signed := appendString(appendString(appendString(nil, []byte(proveRequest)), session), next.PublicKey().Marshal())
	if err := next.PublicKey().Verify(signed, &signature); err != nil {
		t.Error(err)
	}
	if ok, _ := ask(next); ok {
		t.Error("proved a key twice")
	}
	if ok, _ := ask(now); !ok {
		t.Error("the key in use is not proved")
	}
}

// A client that trusts the authority needs to know no key; one that is shown a
// certificate for another name, or from another authority, does not go on.
func TestHostCertificate(t *testing.T) {
	labtest.NeedProgram(t, "ssh", "openssh-client")
	key, authority, stranger := newKey(t), newKey(t), newKey(t)
	certify := func(by ssh.Signer, name string) ssh.Signer {
		cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{name}, ValidBefore: ssh.CertTimeInfinity}
		must(t, cert.SignCert(rand.Reader, by))
		signer, err := ssh.NewCertSigner(cert, key)
		must(t, err)
		return signer
	}
	var config Config
	w := newWorld(t, func(c *Config) {
		c.HostKeys = []ssh.Signer{key}
		config = *c
	})
	w.sshConfig()
	for _, test := range []struct {
		name      string
		by        ssh.Signer
		principal string
		ok        bool
	}{
		{"good", authority, jump4, true},
		{"other name", authority, "192.0.2.1", false},
		{"other authority", stranger, jump4, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.sub(t)
			next := config
			next.HostKeys = []ssh.Signer{key, certify(test.by, test.principal)}
			must(t, w.server.Update(next))
			must(t, os.WriteFile(w.file("known_hosts"), fmt.Appendf(nil, "@cert-authority %s %s", jump4, ssh.MarshalAuthorizedKey(authority.PublicKey())), 0o600))
			r := w.ssh("-o", "StrictHostKeyChecking=yes", "jump@"+jump4, "true")
			// The server has no command to run, and says so with status 1.
			if let := r.status == 1 && strings.Contains(r.err, "jump server"); let != test.ok {
				t.Errorf("status %d, %s", r.status, r.err)
			}
		})
	}
}
