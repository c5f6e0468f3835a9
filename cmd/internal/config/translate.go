package config

import (
	"fmt"
	"sort"
	"strings"

	"aarch64.com/isthmus/translate"
)

var (
	udpZero = map[string]translate.UDPZero{
		UDPZeroCompute: translate.UDPZeroCompute,
		UDPZeroDrop:    translate.UDPZeroDrop,
	}
	hairpin = map[string]translate.Hairpin{
		HairpinIntrinsic: translate.HairpinIntrinsic,
		HairpinSimple:    translate.HairpinSimple,
		HairpinOff:       translate.HairpinOff,
	}
)

// Translate is what [router] says about translation, without what only a running
// router can tell (AutoVMs). It shares memory with c.
func (c *Config) Translate() translate.Config {
	r := &c.Router
	return translate.Config{
		Pool6:           r.Pool6,
		EAM:             r.EAM,
		LowestIPv6MTU:   r.LowestIPv6MTU,
		UDPZeroChecksum: udpZero[r.UDPZeroChecksum],
		TOS:             r.TOS,
		ICMPSource4:     r.ICMPSource4,
		ICMPSource6:     r.ICMPSource6,
		Deny4:           r.Deny4,
		AllowPrivate4:   r.AllowPrivate4,
		Hairpin:         hairpin[r.Hairpin],
		VMPrefixes:      r.VMPrefixes,
		MSSClamp:        r.MSSClamp,
	}
}

// checkTranslate asks the translator, which has the last word about what it
// can do, and finds out which entry it is that it refuses.
func checkTranslate(d *decoder, root *node) {
	whole := d.config.Translate()
	all := func() error { _, err := translate.New(whole); return err }()
	if all == nil {
		return
	}
	r := &d.config.Router
	refused := false
	for _, list := range []struct {
		name string
		n    int
		part func(low, high int) translate.Config
	}{
		{"pool6", len(r.Pool6), func(l, h int) translate.Config { return translate.Config{Pool6: r.Pool6[l:h]} }},
		{"eam", len(r.EAM), func(l, h int) translate.Config { return translate.Config{EAM: r.EAM[l:h]} }},
		{"icmp_source4", len(r.ICMPSource4), func(l, h int) translate.Config { return translate.Config{ICMPSource4: r.ICMPSource4[l:h]} }},
		{"icmp_source6", len(r.ICMPSource6), func(l, h int) translate.Config { return translate.Config{ICMPSource6: r.ICMPSource6[l:h]} }},
		{"deny4", len(r.Deny4), func(l, h int) translate.Config { return translate.Config{Deny4: r.Deny4[l:h]} }},
	} {
		works := func(low, high int) error { _, err := translate.New(list.part(low, high)); return err }
		if works(0, list.n) == nil {
			continue
		}
		refused = true
		// The first entry that makes those before it fail.
		i := sort.Search(list.n, func(i int) bool { return works(0, i+1) != nil })
		err := works(i, i+1)
		if err == nil { // right alone, wrong beside an earlier one
			err = works(0, i+1)
		}
		problem := strings.TrimPrefix(err.Error(), list.name+" entry 1: ")
		d.add(valueOffset(root, "router", list.name, i), fmt.Sprintf("router.%s[%d]", list.name, i), problem, "")
	}
	if !refused {
		d.add(valueOffset(root, "router"), "router", all.Error(), "")
	}
}
