package jump

import (
	"crypto/ed25519"
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func testKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestUpdate(t *testing.T) {
	c := Config{VMPrefixes: prefixes("2001:db8:1::/48"), Reach: reachIn("2001:db8:1::/48"), HostKeys: []ssh.Signer{testKey(t)}}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	allowed := func(a string) bool { _, no := s.config().policy.allow(a, 22); return no == nil }
	if !allowed("2001:db8:1::1") || allowed("2001:db8:2::1") {
		t.Error("wrong at first")
	}
	next := c
	next.VMPrefixes, next.Reach = prefixes("2001:db8:2::/48"), reachIn("2001:db8:2::/48")
	next.Limits.Connections = 1
	if err := s.Update(next); err != nil {
		t.Fatal(err)
	}
	if allowed("2001:db8:1::1") || !allowed("2001:db8:2::1") {
		t.Error("the update does not hold")
	}
	if got := s.admission.enter(netip.MustParseAddr("192.0.2.1")); got != LoggedIn {
		t.Errorf("first connection: %v", got)
	}
	if got := s.admission.enter(netip.MustParseAddr("192.0.2.2")); got != LoginDropped {
		t.Errorf("second connection: %v, want it dropped by the new limit", got)
	}
	for name, bad := range map[string]Config{
		"no prefix":   {HostKeys: c.HostKeys, Reach: c.Reach},
		"no rule":     {HostKeys: c.HostKeys, VMPrefixes: c.VMPrefixes},
		"no key":      {VMPrefixes: c.VMPrefixes, Reach: c.Reach},
		"IPv4 prefix": {HostKeys: c.HostKeys, Reach: c.Reach, VMPrefixes: prefixes("192.0.2.0/24")},
	} {
		if err := s.Update(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
		if !allowed("2001:db8:2::1") {
			t.Fatalf("%s: a bad update replaced a good configuration", name)
		}
	}
}

func TestAnnouncedOnce(t *testing.T) {
	now, next, authority := testKey(t), testKey(t), testKey(t)
	cert := &ssh.Certificate{Key: now.PublicKey(), CertType: ssh.HostCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	certified, err := ssh.NewCertSigner(cert, now)
	if err != nil {
		t.Fatal(err)
	}
	n := &settings{Config: Config{HostKeys: []ssh.Signer{certified, now}, NextKeys: []ssh.Signer{now, next}}}
	got := n.announced()
	if len(got) != 2 || got[0] != now || got[1] != next {
		t.Errorf("got %d keys, want the key of now and the next one", len(got))
	}
}

func TestDialTimes(t *testing.T) {
	var d dialTimes
	d.observe(time.Millisecond)
	d.observe(time.Millisecond + 1)
	d.observe(time.Hour)
	want := DialTimes{Sum: time.Hour + 2*time.Millisecond + 1}
	want.Counts[0], want.Counts[1], want.Counts[len(DialBounds)] = 1, 1, 1
	if got := d.copy(); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
