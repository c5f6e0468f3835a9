package golden

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/packettext"
)

// Case is one packet and its fate.
type Case struct {
	File, RFC, Section, Name string
	Line                     int
	Says                     string // the rule
	Settings
	In      []byte
	Verdict string
	Out     []Packet
}

// Settings are what a case's keys set.
type Settings struct {
	Config     translate.Config
	MTU6, MTU4 int
	Meta       translate.Meta
	Sources    translate.Sources
	Lab        string // "": every path; else "wire", "kernel" or "no", and why
}

// Packet is one that must come out.
type Packet struct{ text string }

// Defaults are the settings of a file that says nothing: a virtual machine with
// an explicit mapping, 2001:db8:64::2 and 192.0.2.2, a second one, and the
// well-known prefix for everybody else.
func Defaults() Settings {
	s := Settings{MTU6: 1500, MTU4: 1500}
	for _, kv := range [][2]string{
		{"pool6", `["64:ff9b::/96"]`},
		{"eam", `[{ ipv6 = "2001:db8:64::2/128", ipv4 = "192.0.2.2/32" }, { ipv6 = "2001:db8:64::3/128", ipv4 = "192.0.2.3/32" }]`},
		{"local4", `["203.0.113.1"]`},
		{"source4", `"203.0.113.1"`},
		{"source6", `"2001:db8:ffff::1"`},
	} {
		if err := s.set(kv[0], kv[1]); err != nil {
			panic(err) // a mistake in the lines above
		}
	}
	return s
}

func (s *Settings) set(key, v string) (err error) {
	c := &s.Config
	switch key {
	case "pool6":
		c.Pool6, err = prefixes(v)
	case "eam":
		c.EAM, err = mappings(v)
	case "lowest_ipv6_mtu":
		c.LowestIPv6MTU, err = strconv.Atoi(v)
	case "udp_zero_checksum":
		c.UDPZeroChecksum, err = oneOf(v, map[string]translate.UDPZero{"compute": translate.UDPZeroCompute, "drop": translate.UDPZeroDrop})
	case "tos":
		if n, bad := strconv.ParseUint(v, 0, 8); bad == nil {
			c.TOS = translate.TOS{Fixed: true, Value: uint8(n)}
			return nil
		}
		c.TOS, err = oneOf(v, map[string]translate.TOS{"copy": {}, "zero": {Fixed: true}})
	case "icmp_source4":
		c.ICMPSource4, err = prefixes(v)
	case "icmp_source6":
		c.ICMPSource6, err = prefixes(v)
	case "deny4":
		c.Deny4, err = prefixes(v)
	case "tcp_mss_clamp":
		if v == `"auto"` {
			c.MSSClamp = translate.MSSClamp{Auto: true}
			return nil
		}
		c.MSSClamp.Max, err = strconv.Atoi(v)
	case "vm_prefixes":
		c.VMPrefixes, err = prefixes(v)
	case "allow_private4":
		c.AllowPrivate4, err = strconv.ParseBool(v)
	case "hairpin":
		c.Hairpin, err = oneOf(v, map[string]translate.Hairpin{"intrinsic": translate.HairpinIntrinsic, "simple": translate.HairpinSimple, "off": translate.HairpinOff})
	case "local4":
		c.Local4, err = addresses(v)
	case "local6":
		c.Local6, err = addresses(v)
	case "source4", "source6":
		return s.source(key, v)
	case "mtu6":
		s.MTU6, err = strconv.Atoi(v)
	case "mtu4":
		s.MTU4, err = strconv.Atoi(v)
	case "partial_checksum":
		s.Meta.PartialChecksum, err = strconv.ParseBool(v)
	case "segment_size":
		var n uint64
		n, err = strconv.ParseUint(v, 10, 16)
		s.Meta.SegmentSize = uint16(n)
	case "lab":
		s.Lab, err = strconv.Unquote(v)
		if path, why, ok := strings.Cut(s.Lab, ", because "); err == nil && (!ok || why == "" || path != "no" && path != "wire" && path != "kernel") {
			err = errors.New(`lab is "no, because ...", "wire, because ..." or "kernel, because ..."`)
		}
	default:
		return errors.New("unknown key")
	}
	return err
}

func (s *Settings) source(key, v string) error {
	text, err := strconv.Unquote(v)
	if err != nil {
		return err
	}
	var a netip.Addr
	if text != "" {
		if a, err = netip.ParseAddr(text); err != nil {
			return err
		}
	}
	if key == "source4" {
		s.Sources.V4 = [4]byte{}
		copy(s.Sources.V4[:], a.AsSlice())
	} else {
		s.Sources.V6 = [16]byte{}
		copy(s.Sources.V6[:], a.AsSlice())
	}
	return nil
}

// Load reads all cases below dir, in the order of their files.
func Load(dir string) ([]Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.txt"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no golden packets in %s", dir)
	}
	var all []Case
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		section, _, ok := strings.Cut(filepath.Base(f), "_")
		if !ok {
			return nil, fmt.Errorf("%s: call it <section>_<name>.txt", f)
		}
		base := Case{File: strings.TrimSuffix(filepath.Base(f), ".txt"), RFC: filepath.Base(filepath.Dir(f)), Section: section}
		cases, err := parse(base, string(text))
		if err != nil {
			return nil, fmt.Errorf("%s:%w", f, err)
		}
		all = append(all, cases...)
	}
	return all, nil
}

var keyValue = regexp.MustCompile(`^([a-z_0-9]+) = (.*)$`)

// draft is a case that is being read.
type draft struct {
	Case
	in  string
	out []string
}

// parse reads one file.
func parse(base Case, text string) ([]Case, error) {
	base.Settings = Defaults()
	var cases []Case
	var d *draft
	seen := map[string]bool{}
	names := map[string]bool{}
	finish := func() error {
		if d == nil {
			return nil
		}
		c, err := d.finish()
		if err != nil {
			return fmt.Errorf("%d: %s: %w", d.Line, d.Name, err)
		}
		cases = append(cases, c)
		return nil
	}
	for i, line := range strings.Split(text, "\n") {
		bad := func(format string, args ...any) error {
			return fmt.Errorf("%d: %s: %s", i+1, line, fmt.Sprintf(format, args...))
		}
		if name, ok := strings.CutPrefix(line, "## "); ok {
			if err := finish(); err != nil {
				return nil, err
			}
			if names[name] {
				return nil, bad("a case of this name exists")
			}
			names[name] = true
			d = &draft{Case: base}
			d.Line, d.Name = i+1, name
			seen = map[string]bool{}
			continue
		}
		if kv := keyValue.FindStringSubmatch(line); kv != nil {
			settings := &base.Settings
			if d != nil {
				settings = &d.Settings
			}
			if seen[kv[1]] {
				return nil, bad("set twice")
			}
			seen[kv[1]] = true
			was := *settings
			if err := settings.set(kv[1], kv[2]); err != nil {
				return nil, bad("%v", err)
			}
			if reflect.DeepEqual(was, *settings) {
				return nil, bad("it is so without this line")
			}
			continue
		}
		if d == nil {
			if line != "" && line[0] != '#' {
				return nil, bad("before the first case only # lines and keys are allowed")
			}
			continue
		}
		if err := d.line(line); err != nil {
			return nil, bad("%v", err)
		}
	}
	if err := finish(); err != nil {
		return nil, err
	}
	if len(cases) == 0 {
		return nil, errors.New("1: no cases")
	}
	return cases, nil
}

// line takes a line of a case that sets nothing.
func (d *draft) line(line string) error {
	switch {
	case line == "":
	case line[0] == '>':
		if d.Verdict != "" {
			return errors.New("the packet in comes before the verdict")
		}
		d.in += strings.TrimPrefix(line[1:], " ") + "\n"
	case line[0] == '=':
		if d.Verdict != "" {
			return errors.New("a second verdict")
		}
		d.Verdict = strings.TrimSpace(line[1:])
	case line == "<":
		d.out = append(d.out, "")
	case line[0] == '<':
		if d.Verdict == "" {
			return errors.New("the verdict comes before what goes out")
		}
		if len(d.out) == 0 {
			d.out = append(d.out, "")
		}
		d.out[len(d.out)-1] += strings.TrimPrefix(line[1:], " ") + "\n"
	case d.in != "":
		return errors.New("the rule comes before the packet")
	default:
		d.Says = strings.TrimSpace(d.Says + " " + line)
	}
	return nil
}

func (d *draft) finish() (Case, error) {
	switch {
	case d.Says == "":
		return d.Case, errors.New("say which rule this shows")
	case d.Verdict == "":
		return d.Case, errors.New("no verdict: write a line \"= LABEL\"")
	case d.in == "":
		return d.Case, errors.New("no packet: write lines that start with >")
	}
	known := false
	for v := range translate.NumVerdicts {
		known = known || translate.Verdict(v).String() == d.Verdict
	}
	if !known {
		return d.Case, fmt.Errorf("there is no verdict %q", d.Verdict)
	}
	var err error
	if d.In, err = packettext.Parse(d.in); err != nil {
		return d.Case, fmt.Errorf("packet in: %w", err)
	}
	for i, text := range d.out {
		p := Packet{text}
		if _, err := packettext.Parse(p.with(0, 0)); err != nil {
			return d.Case, fmt.Errorf("packet %d out: %w", i+1, err)
		}
		d.Out = append(d.Out, p)
	}
	return d.Case, nil
}

var anyID = regexp.MustCompile(`(?m)^( *)(ip4 .*)\bid any\b`)

// with puts identifications in place of "id any".
func (p Packet) with(outer, inner uint16) string {
	return anyID.ReplaceAllStringFunc(p.text, func(s string) string {
		id := outer
		if s[0] == ' ' {
			id = inner
		}
		return strings.Replace(s, "id any", fmt.Sprintf("id %d", id), 1)
	})
}

// Match compares with a packet that came out, byte for byte but for an
// identification that may be any. The error shows both.
func (p Packet) Match(got []byte) error {
	var outer, inner uint16
	if len(got) >= 20 {
		outer = binary.BigEndian.Uint16(got[4:])
	}
	if len(got) >= 48 {
		inner = binary.BigEndian.Uint16(got[20+8+4:])
	}
	want, err := packettext.Parse(p.with(outer, inner))
	if err != nil {
		return err
	}
	if bytes.Equal(want, got) {
		return nil
	}
	return fmt.Errorf("want\n%s%x\ngot\n%s%x", packettext.Format(want), want, packettext.Format(got), got)
}

// Check compares all that came out with what must.
func (c *Case) Check(out [][]byte) error {
	var errs []error
	for i, p := range out {
		if i >= len(c.Out) {
			errs = append(errs, fmt.Errorf("packet %d is one too many\n%s%x", i+1, packettext.Format(p), p))
		} else if err := c.Out[i].Match(p); err != nil {
			errs = append(errs, fmt.Errorf("packet %d: %w", i+1, err))
		}
		// What one packet was cut into belongs together.
		if len(p) >= 20 && p[0]>>4 == 4 && !bytes.Equal(p[4:6], out[0][4:6]) {
			errs = append(errs, fmt.Errorf("packet %d has another identification than the first", i+1))
		}
	}
	if len(out) < len(c.Out) {
		errs = append(errs, fmt.Errorf("%d packets came out, want %d; the next is\n%s", len(out), len(c.Out), c.Out[len(out)].text))
	}
	return errors.Join(errs...)
}

// Where names the case's place.
func (c *Case) Where() string { return fmt.Sprintf("%s/%s.txt:%d", c.RFC, c.File, c.Line) }

// MTUs gives those of the link the packet comes by and the one it leaves by.
func (c *Case) MTUs(to translate.Family) (in, out int) {
	mtu := map[translate.Family]int{translate.V4: c.MTU4, translate.V6: c.MTU6}
	from := translate.V4
	if len(c.In) > 0 && c.In[0]>>4 == 6 {
		from = translate.V6
	}
	return mtu[from], mtu[to]
}
