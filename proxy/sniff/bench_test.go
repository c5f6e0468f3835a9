package sniff

import (
	"crypto/tls"
	"testing"
	"time"
)

// BenchmarkClientHello reads a hello as a Go client sends it, with a
// post-quantum key share, beside crypto/tls: "times" is how many of ours fit
// into one of its.
func BenchmarkClientHello(b *testing.B) {
	in, _ := fromGo(b, &tls.Config{ServerName: "shop.example.com", NextProtos: []string{"h2", "http/1.1"}})
	split := records(theMessage(in), 400)
	var theirs time.Duration // for each
	b.Run("crypto/tls", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if o := ask(in); !o.named {
				b.Fatal(o.err)
			}
		}
		theirs = b.Elapsed() / time.Duration(b.N)
	})
	for _, bb := range []struct {
		name string
		f    func() error
	}{
		{"one record", func() error { _, err := ClientHello(in); return err }},
		{"five records", func() error { _, err := ClientHello(split); return err }},
		{"one byte at a time", func() error {
			var s TLS
			for n := range in {
				if _, err := s.ClientHello(in[:n+1]); err != ErrIncomplete {
					return err
				}
			}
			return nil
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bb.f(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(theirs)*float64(b.N)/float64(b.Elapsed()), "times")
		})
	}
}

// BenchmarkWorst is the most work that a client can cause before it is given
// up: MaxWire bytes of records of one byte, each byte in a segment of its own.
func BenchmarkWorst(b *testing.B) {
	in := records(hello(ext{21, make([]byte, MaxHello-105)}, sni("example.com")), 1)
	for b.Loop() {
		var s TLS
		for n := range in {
			if _, err := s.ClientHello(in[:n+1]); err == TooLong {
				break
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/MaxWire, "ns/byte")
}

// BenchmarkInitial reads a hello in one datagram, one in two, and datagrams
// that a flood may consist of. "times" is how many derivations of the keys alone
// with crypto/hkdf it costs.
func BenchmarkInitial(b *testing.B) {
	small := hello(sni("shop.example.com"), alpn("h3"))
	large := hello(ext{51, make([]byte, 1300)}, sni("shop.example.com"), alpn("h3"))
	one := [][]byte{initial{frames: cryptoFrame(0, small)}.seal(b)}
	two := [][]byte{
		initial{frames: cryptoFrame(0, large[:900])}.seal(b),
		initial{number: 1, frames: cryptoFrame(900, large[900:])}.seal(b),
	}
	forged := append([]byte(nil), one[0]...)
	forged[len(forged)-1]++
	version := append([]byte(nil), one[0]...)
	version[1]++
	var library time.Duration // for each
	b.Run("crypto/hkdf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := slowKeys(QUICv1, dcid, "client in"); err != nil {
				b.Fatal(err)
			}
		}
		library = b.Elapsed() / time.Duration(b.N)
	})
	b.Run("keys", func(b *testing.B) {
		b.ReportAllocs()
		var k keys
		for b.Loop() {
			if err := k.derive(QUICv1, dcid, "client in"); err != nil {
				b.Fatal(err)
			}
		}
		if library != 0 {
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(library), "times")
		}
	})
	for _, bb := range []struct {
		name string
		in   [][]byte
		err  error
	}{
		{"one", one, nil},
		{"two", two, nil},
		{"wrong seal", [][]byte{forged}, QUICSealed},
		{"unknown version", [][]byte{version}, QUICVersion},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var q QUIC
				var err error
				for _, d := range bb.in {
					_, err = q.Datagram(d)
				}
				if err != bb.err {
					b.Fatal(err)
				}
			}
			if library != 0 { // else that one was not asked for
				b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(library), "times")
			}
		})
	}
}
