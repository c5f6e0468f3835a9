package translate_test

import (
	"bytes"
	"testing"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/internal/golden"
)

// TestGolden runs the golden packets. Select with
// -run TestGolden/RFC/SECTION/NAME, each a prefix.
func TestGolden(t *testing.T) {
	cases, err := golden.Load("testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 300 {
		t.Errorf("only %d cases", len(cases))
	}
	golden.Run(t, cases, func(t *testing.T, c *golden.Case) {
		verdict, out := fate(t, c)
		if verdict.String() != c.Verdict {
			t.Errorf("%s: verdict %v, want %s", c.Where(), verdict, c.Verdict)
		}
		if err := c.Check(out); err != nil {
			t.Errorf("%s: %s: %v", c.Where(), c.Says, err)
		}
	})
}

// fate lets the translator do what a router does with a packet.
func fate(t *testing.T, c *golden.Case) (translate.Verdict, [][]byte) {
	t.Helper()
	tr, err := translate.New(c.Config)
	if err != nil {
		t.Fatalf("%s: %v", c.Where(), err)
	}
	const start = 100
	buf := bytes.Repeat([]byte{0xa5}, start+len(c.In)+100)
	copy(buf[start:], c.In)
	before := bytes.Clone(buf)
	var pl translate.Plan
	v := tr.Decide(&pl, buf[start:start+len(c.In)], c.Meta)
	if v.Action() == translate.Emit {
		in, out := c.MTUs(pl.To)
		v = tr.Fit(&pl, in, out)
	}
	if !bytes.Equal(buf, before) {
		t.Fatalf("verdict %v has changed the packet", v)
	}
	var out [][]byte
	var at, n int
	switch v.Action() {
	case translate.Emit, translate.Cut:
		at, n = tr.Rewrite(&pl, translate.NewState(7), buf, start)
		if v.Action() == translate.Emit {
			out = append(out, buf[at:at+n])
			break
		}
		for more := true; more; {
			dst := make([]byte, 65536)
			var k int
			k, more = pl.Split(buf[at:at+n], dst)
			out = append(out, dst[:k])
		}
	case translate.Answer:
		var ok bool
		if at, n, ok = tr.Error(&pl, buf, start, c.Sources); ok {
			out = append(out, buf[at:at+n])
		}
	}
	if !bytes.Equal(buf[:start-translate.Headroom], before[:start-translate.Headroom]) || !bytes.Equal(buf[start+pl.Len:], before[start+pl.Len:]) {
		t.Error("bytes outside of packet and headroom have changed")
	}
	return v, out
}
