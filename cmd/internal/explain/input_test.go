package explain

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"aarch64.com/isthmus/translate"
)

var udp4 = mustHex("4500002a000100004011000ac633640200000000" + "003504d20016000048656c6c6f2c20776f726c6421ff")

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestParseHex(t *testing.T) {
	plain := hex.EncodeToString(udp4)
	dumps := map[string]string{
		"plain":       plain,
		"upper case":  strings.ToUpper(plain),
		"lines":       plain[:32] + "\n" + plain[32:] + "\n",
		"colons":      "45:00:00:2a:" + plain[8:],
		"0x":          "0x45, 0x00, 0x00 0x2a " + plain[8:],
		"one 0x":      "0x" + plain,
		"C":           "{ 0x45, 0x00, 0x00, 0x2a, 0x00, 0x01, " + plain[12:] + " };",
		"comment":     "# a packet\n" + plain,
		"CRLF":        plain[:32] + "\r\n" + plain[32:] + "\r\n",
		"hexdump -C":  hex.Dump(udp4),
		"Wireshark":   "0000   45 00 00 2a 00 01 00 00 40 11 00 0a c6 33 64 02   E..*....@....3d.\n0010   00 00 00 00 00 35 04 d2 00 16 00 00 48 65 6c 6c   .....5......Hell\n0020   6f 2c 20 77 6f 72 6c 64 21 ff                     o, world!.\n",
		"tcpdump -x":  "\t0x0000:  4500 002a 0001 0000 4011 000a c633 6402\n\t0x0010:  0000 0000 0035 04d2 0016 0000 4865 6c6c\n\t0x0020:  6f2c 2077 6f72 6c64 21ff\n",
		"tcpdump":     "12:00:00.0 IP 198.51.100.2.53 > 0.0.0.0.1234: UDP, length 14\n\t0x0000:  4500 002a 0001 0000 4011 000a c633 6402\n\t0x0010:  0000 0000 0035 04d2 0016 0000 4865 6c6c\n\t0x0020:  6f2c 2077 6f72 6c64 21ff\n",
		"tcpdump -X":  "\t0x0000:  4500 002a 0001 0000 4011 000a c633 6402  E..*....@....3d.\n\t0x0010:  0000 0000 0035 04d2 0016 0000 4865 6c6c  .....5......Hell\n\t0x0020:  6f2c 2077 6f72 6c64 21ff                 o,.world!.\n",
		"xxd":         "00000000: 4500 002a 0001 0000 4011 000a c633 6402  E..*....@....3d.\n00000010: 0000 0000 0035 04d2 0016 0000 4865 6c6c  .....5......Hell\n00000020: 6f2c 2077 6f72 6c64 21ff                 o, world!.\n",
		"text is hex": "0000   45 00 00 2a 00 01 00 00 40 11 00 0a c6 33 64 02   aa bb cc dd ee f\n0010   00 00 00 00 00 35 04 d2 00 16 00 00 48 65 6c 6c   aabbccdd\n0020   6f 2c 20 77 6f 72 6c 64 21 ff                     ab\n",
	}
	for name, text := range dumps {
		t.Run(name, func(t *testing.T) {
			got, err := ParseHex(text)
			if err != nil || !bytes.Equal(got, udp4) {
				t.Errorf("%x, %v", got, err)
			}
		})
	}
}

func TestParseHexErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "the packet is empty"},
		{"comment only", "# nothing\n", "the packet is empty"},
		{"odd", "45 0", "there are 3 hexadecimal digits, and two make a byte"},
		{"letter", "45 00\n00 2g", "line 2, column 5: 'g' is no hexadecimal digit"},
		{"line missing", "0000 45 00 00 2a\n0020 00 00\n", "line 2 says offset 0x20, but the lines before have 0x4 bytes: a line is missing, cut or there twice"},
		{"two packets", "0000 45 00\n0000 45 00\n", "line 2 starts another packet"},
		{"no offset", "0000 45 00 00 2a\nhello 12\n", `line 2 starts with "hello", which is no offset`},
		{"word in dump", "0000 45 00 xx 2a\n", `line 1: "xx" is not hexadecimal`},
		{"half a byte in dump", "0000 45 0\n", `line 1: "0" is no whole number of bytes`},
		{"too long", strings.Repeat("45", maxPacket+1), "more than the 65597 that an IP packet in a frame can have"},
		{"much too long", strings.Repeat(" ", maxInput+1), "more than 1048576"},
		{"long word", "0000 45 00 " + strings.Repeat("x", 200), `"` + strings.Repeat("x", 40) + `..." is not hexadecimal`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseHex(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%x, %v; want %s", got, err, tt.want)
			}
		})
	}
}

var ethernetHeader = mustHex("020000000001" + "020000000002")

func TestLinkTypes(t *testing.T) {
	ip6 := mustHex("6000000000003b40" + strings.Repeat("20", 32))
	frame := func(parts ...string) []byte { return mustHex(strings.Join(parts, "")) }
	p4, p6, eth := hex.EncodeToString(udp4), hex.EncodeToString(ip6), hex.EncodeToString(ethernetHeader)
	for _, tt := range []struct {
		name  string
		link  layers.LinkType
		frame []byte
		want  []byte
		err   string
	}{
		{"Ethernet", 1, frame(eth, "0800", p4), udp4, ""},
		{"Ethernet IPv6", 1, frame(eth, "86dd", p6), ip6, ""},
		{"VLAN", 1, frame(eth, "81000005", "0800", p4), udp4, ""},
		{"two VLANs", 1, frame(eth, "88a80005", "81000006", "0800", p4), udp4, ""},
		{"raw", 101, udp4, udp4, ""},
		{"raw of OpenBSD", 14, ip6, ip6, ""},
		{"IPv6", 229, ip6, ip6, ""},
		{"cooked", 113, frame("0000000100060200000000010000", "0800", p4), udp4, ""},
		{"cooked with VLAN", 113, frame("0000000100060200000000010000", "8100", "0005", "0800", p4), udp4, ""},
		{"cooked 2", 276, frame("86dd0000000000020001000602000000000100", "00", p6), ip6, ""},
		{"null", 0, frame("02000000", p4), udp4, ""},
		{"null of macOS", 0, frame("1e000000", p6), ip6, ""},
		{"loopback", 108, frame("00000002", p4), udp4, ""},
		{"ARP", 1, frame(eth, "0806", "0001"), nil, "its Ethertype 0x0806 (ARP) is not IP"},
		{"wrong version", 1, frame(eth, "86dd", p4), nil, "its Ethertype says IPv6, but version 4 follows"},
		{"short Ethernet", 1, ethernetHeader, nil, "it has 12 bytes and ends within its Ethernet header"},
		{"short VLAN", 1, frame(eth, "8100"), nil, "it has 14 bytes and ends within its Ethernet and VLAN header"},
		{"short cooked", 113, ethernetHeader, nil, "fewer than a Linux cooked capture header takes"},
		{"short cooked 2", 276, ethernetHeader, nil, "fewer than a Linux cooked capture header takes"},
		{"short null", 0, []byte{2}, nil, "fewer than a loopback header takes"},
		{"null of another family", 0, frame("07000000"), nil, "its address family 7 is neither IPv4 nor IPv6"},
		{"wireless", 105, udp4, nil, "its link type 105"},
		{"no link type", 60000, udp4, nil, "its link type 60000 is not known here"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := ip(tt.frame, tt.link)
			if tt.err == "" && (err != nil || !bytes.Equal(got, tt.want)) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("%x, %v", got, err)
			}
		})
	}
}

// captures gives files of all kinds, with udp4 as frame 2.
func captures(t testing.TB) map[string][]byte {
	t.Helper()
	first := append(bytes.Clone(ethernetHeader), 8, 6, 0, 1)
	second := append(append(bytes.Clone(ethernetHeader), 8, 0), udp4...)
	info := func(b []byte) gopacket.CaptureInfo {
		return gopacket.CaptureInfo{Timestamp: time.Unix(1e9, 0), CaptureLength: len(b), Length: len(b)}
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	files := map[string][]byte{}
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	check(w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	check(w.WritePacket(info(first), first))
	check(w.WritePacket(info(second), second))
	files["pcap"] = bytes.Clone(b.Bytes())
	b.Reset()
	w = pcapgo.NewWriterNanos(&b)
	check(w.WriteFileHeader(65535, layers.LinkTypeRaw))
	check(w.WritePacket(info(udp4), udp4))
	cut := info(udp4)
	cut.Length = 1500
	check(w.WritePacket(cut, udp4))
	files["pcap nanoseconds raw cut"] = bytes.Clone(b.Bytes())
	b.Reset()
	ng, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
	check(err)
	raw, err := ng.AddInterface(pcapgo.NgInterface{Name: "tun", LinkType: layers.LinkTypeRaw, SnapLength: 65535})
	check(err)
	check(ng.WritePacket(info(first), first))
	mixed := info(udp4)
	mixed.InterfaceIndex = raw
	check(ng.WritePacket(mixed, udp4))
	check(ng.Flush())
	files["pcapng mixed"] = bytes.Clone(b.Bytes())
	return files
}

func TestCaptureFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range captures(t) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			in, err := CaptureFile(path, 2)
			if err != nil || !bytes.Equal(in.Packet, udp4) || in.Source != "frame 2 of "+path {
				t.Fatalf("%+v, %v", in, err)
			}
			if strings.Contains(name, "cut") && !strings.Contains(strings.Join(in.Notes, ""), "only 42 of 1500 bytes were recorded") {
				t.Errorf("notes %q", in.Notes)
			}
			if _, err = CaptureFile(path, 3); err == nil || !strings.Contains(err.Error(), "it has 2 frames, and --frame asks for number 3; the first is number 1") {
				t.Errorf("frame 3: %v", err)
			}
			if err := os.WriteFile(path, content[:len(content)-7], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err = CaptureFile(path, 2); err == nil || !strings.Contains(err.Error(), "frame 2 can't be read") {
				t.Errorf("cut file: %v", err)
			}
		})
	}
}

// FuzzInput: whatever is given as packet or capture file, there is an explanation
// or an error.
func FuzzInput(f *testing.F) {
	for _, content := range captures(f) {
		f.Add(content, uint8(2))
	}
	f.Add([]byte(hex.Dump(udp4)), uint8(0))
	f.Add([]byte("6000000000141140 20010db8"), uint8(0))
	f.Add([]byte("ip6 2001:db8::1 > 64:ff9b::1\nudp 1 > 2\n"), uint8(0))
	f.Add([]byte("0000 45 00"), uint8(0))
	f.Fuzz(func(t *testing.T, content []byte, frame uint8) {
		var in Input
		var err error
		if frame > 0 {
			in, err = capture(bytes.NewReader(content), int(frame))
		} else {
			in, err = TextInput(string(content), "the test")
		}
		if err != nil {
			return
		}
		r, err := Explain(in, Options{Config: translate.Config{}, MTUIn: 1500, MTUOut: 1500})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Steps) == 0 || len(r.Counters) == 0 {
			t.Errorf("%+v", r)
		}
		if err := r.Print(&bytes.Buffer{}, true); err != nil {
			t.Error(err)
		}
	})
}

// FuzzDissect: what Explain shows of any bytes, and how it is laid out.
func FuzzDissect(f *testing.F) {
	f.Add(udp4, false)
	f.Add([]byte{}, false)
	f.Add(mustHex("6000000000083a40"+strings.Repeat("20", 32)+"0300000000000000"), true)
	f.Fuzz(func(t *testing.T, p []byte, partial bool) {
		r := Report{Before: newPacket(p, partial)}
		if len(r.Before.Fields) == 0 {
			t.Error("no field")
		}
		var out bytes.Buffer
		if err := r.Print(&out, false); err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(out.String()) {
			if len(line) > 80 {
				t.Errorf("%d columns: %s", len(line)-1, line)
			}
		}
	})
}
