package golden

import (
	"strings"
	"testing"

	"aarch64.com/isthmus/translate/packettext"
)

const good = `# A file
mtu4 = 1400

## one
The rule,
in two lines.
tos = "zero"
> ip4 198.51.100.2 > 192.0.2.2 proto 253
> hex 01
= split
< ip4 192.0.2.2 > 198.51.100.2 id any mf proto 253
< data 8
<
< ip4 192.0.2.2 > 198.51.100.2 id any offset 8 proto 253
< data 8 from 8
`

func TestParse(t *testing.T) {
	cases, err := parse(Case{RFC: "1", Section: "2"}, good)
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) != 1 {
		t.Fatalf("%d cases", len(cases))
	}
	c := cases[0]
	if c.Name != "one" || c.Says != "The rule, in two lines." || c.MTU4 != 1400 || !c.Config.TOS.Fixed || c.Verdict != "split" || len(c.In) != 21 || len(c.Out) != 2 {
		t.Errorf("%+v", c)
	}
	packet := func(text string) []byte {
		p, err := packettext.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := packet("ip4 192.0.2.2 > 198.51.100.2 id 77 mf proto 253\ndata 8")
	second := packet("ip4 192.0.2.2 > 198.51.100.2 id 77 offset 8 proto 253\ndata 8 from 8")
	if err := c.Check([][]byte{first, second}); err != nil {
		t.Error(err)
	}
	for name, out := range map[string][][]byte{
		"one missing": {first}, "one too many": {first, second, second}, "other order": {second, first},
		"another identification": {first, packet("ip4 192.0.2.2 > 198.51.100.2 id 78 offset 8 proto 253\ndata 8 from 8")},
		"another byte":           {first, packet("ip4 192.0.2.2 > 198.51.100.2 id 77 offset 8 proto 253\ndata 8 from 10")},
	} {
		if c.Check(out) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{`tos = "zero"`, `toss = "zero"`, "7: toss = \"zero\": unknown key"},
		{`tos = "zero"`, `tos = "copy"`, "it is so without this line"},
		{`tos = "zero"`, "mtu6 = 9\nmtu6 = 8", "set twice"},
		{`tos = "zero"`, `lab = "no"`, "because"},
		{`tos = "zero"`, `pool6 = [64]`, "no string in quotes"},
		{`tos = "zero"`, `eam = [{ ipv6 = "::1/128", ipv5 = "192.0.2.1/32" }]`, "unknown key"},
		{"The rule,\nin two lines.\n", "", "say which rule"},
		{"= split", "= splat", `no verdict "splat"`},
		{"= split\n", "", "the verdict comes before"},
		{"proto 253\n> hex", "hex", "packet in"},
		{"< data 8\n<\n", "< date 8\n<\n", "packet 1 out"},
		{"mtu4 = 1400", "mtu4 1400", "before the first case"},
		{"< data 8 from 8\n", "< data 8 from 8\n## one\n", "a case of this name exists"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		if text == good {
			t.Fatalf("%q is not in the file", c.from)
		}
		if _, err := parse(Case{}, text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.to, err, c.want)
		}
	}
}
