package translate_test

import (
	"encoding/hex"
	"fmt"
	"net/netip"

	"aarch64.com/isthmus/translate"
)

// A worker's way with one packet.
func Example() {
	t, err := translate.New(translate.Config{
		Pool6: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")},
		EAM: []translate.EAM{{
			IPv6: netip.MustParsePrefix("2001:db8::a/128"),
			IPv4: netip.MustParsePrefix("192.0.2.10/32"),
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var plan translate.Plan // one of each per worker
	state := translate.NewState(1)
	own := translate.Sources{V6: netip.MustParseAddr("2001:db8::1").As16()}

	// An empty ESP packet from 2001:db8::a to 64:ff9b::203.0.113.7, hop limit 64.
	packet, _ := hex.DecodeString("6000000000003240" + "20010db800000000000000000000000a" + "0064ff9b0000000000000000cb007107")
	buf := append(make([]byte, translate.Headroom), packet...)
	start, n := translate.Headroom, len(packet)

	v := t.Decide(&plan, buf[start:start+n], translate.Meta{})
	if v == translate.Forward {
		// Here the next hop to plan.DstHi, plan.DstLo is looked up.
		v = t.Fit(&plan, 1500, 1500)
	}
	switch v.Action() {
	case translate.Emit:
		start, n = t.Rewrite(&plan, state, buf, start)
		fmt.Printf("%v: %d bytes, IPv%d, hop limit %d\n", v, n, plan.To, buf[start+8])
	case translate.Cut:
		start, n = t.Rewrite(&plan, state, buf, start)
		fragment := make([]byte, 1500)
		for more := true; more; {
			var k int
			k, more = plan.Split(buf[start:start+n], fragment)
			fmt.Printf("%v: %d bytes\n", v, k)
		}
	case translate.Answer:
		if _, k, ok := t.Error(&plan, buf, start, own); ok {
			fmt.Printf("%v: %d bytes of ICMP\n", v, k)
		}
	default:
		fmt.Println(v)
	}
	// Output: forward: 20 bytes, IPv4, hop limit 63
}
