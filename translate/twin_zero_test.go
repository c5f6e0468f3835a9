package translate_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/internal/twin"
)

// TestTwinZeroChecksum meets the one packet in 65536 whose checksum comes out as
// zero, which UDP writes as 0xffff (RFC 768) and nobody else does, on every way
// that leads through the fast and the complete path.
func TestTwinZeroChecksum(t *testing.T) {
	ways := 0
	for i, c := range twinConfigs() {
		tr, err := translate.New(c)
		if err != nil {
			t.Fatal(err)
		}
		pr := &pair{config: c, tr: tr, state: translate.NewState(1)}
		if len(c.Pool6) == 0 {
			continue
		}
		for _, k := range []struct {
			proto byte
			at    int
		}{{6, 16}, {17, 6}, {136, 6}, {33, 6}, {1, 2}} {
			for _, v6 := range []bool{true, false} {
				t.Run(fmt.Sprintf("config_%d_protocol_%d_v6_%v", i, k.proto, v6), func(t *testing.T) {
					src, dst := netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("198.18.4.1")
					head := 20
					if v6 {
						node := "2001:db8:aaaa::1"
						if c.EAM[0].IPv4 == netip.MustParsePrefix("198.51.100.0/24") && len(c.EAM) == 2 {
							node = "2001:4860::700:0:0:0"
						}
						src, dst, head = netip.MustParseAddr(node), twin.Embed(c.Pool6[0], src), 40
					}
					p := plain(v6, k.proto, src, dst, 0, []byte("an even number of byte"))
					o, _ := pr.mustAgree(t, p, translate.Meta{}, 0, 0, twinSources)
					if o.verdict != translate.Forward {
						return // this configuration has no such way
					}
					ways++
					// Move the resulting checksum into a word of the payload.
					field := p[head+k.at:]
					outHead := 60 - head
					c := binary.BigEndian.Uint16(o.whole[outHead+k.at:])
					word := p[len(p)-2:]
					binary.BigEndian.PutUint16(word, add16(word, []byte{byte(c >> 8), byte(c)}))
					binary.BigEndian.PutUint16(field, add16(field[:2], []byte{byte(^c >> 8), byte(^c)}))
					o, _ = pr.mustAgree(t, p, translate.Meta{}, 0, 0, twinSources)
					want := uint16(0)
					if k.proto == 17 || k.proto == 136 {
						want = 0xffff
					}
					if got := binary.BigEndian.Uint16(o.whole[outHead+k.at:]); got != want {
						t.Errorf("checksum %#04x, want %#04x\nin  %x\nout %x", got, want, p, o.whole)
					}
				})
			}
		}
	}
	if ways < 60 {
		t.Errorf("only %d ways were open", ways)
	}
}
