package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aarch64.com/isthmus/translate/packettext"
)

var updateTranscripts = flag.Bool("update", false, "write the transcripts of testdata/explain anew")

// explainCase is one file of testdata/explain: comment lines, then "$ explain"
// with flags, the configuration's lines, an empty line, the packet as
// packettext writes it, a line ---, and what the command prints.
type explainCase struct {
	head, config, packet, want string
	flags                      []string
}

func readExplainCase(t *testing.T, path string) explainCase {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c explainCase
	var ok bool
	if c.head, c.want, ok = strings.Cut(string(b), "\n---\n"); !ok {
		t.Fatalf("%s has no line ---", path)
	}
	top, packet, ok := strings.Cut(c.head, "\n\n")
	if !ok {
		t.Fatalf("%s has no empty line in front of the packet", path)
	}
	c.packet = packet
	for line := range strings.Lines(top) {
		if flags, is := strings.CutPrefix(line, "$ explain"); is {
			c.flags = strings.Fields(flags)
			continue
		}
		c.config += line
	}
	return c
}

// TestExplain compares what is printed with the transcripts of testdata/explain.
// After a change that is meant: go test ./cmd/isthmus -run TestExplain -update
func TestExplain(t *testing.T) {
	files, err := filepath.Glob("testdata/explain/*.txt")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			c := readExplainCase(t, path)
			p, err := packettext.Parse(c.packet)
			if err != nil {
				t.Fatal(err)
			}
			path, err := filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(filepath.Dir(writeConfig(t, c.config)))
			status, out, errs := isthmus(append([]string{"explain", "-c", "isthmus.toml", hex.EncodeToString(p)}, c.flags...)...)
			if status != 0 || errs != "" {
				t.Fatalf("status %d, %s", status, errs)
			}
			for line := range strings.Lines(out) {
				if len(line) > 80 || strings.HasSuffix(line, " \n") {
					t.Errorf("%d columns, or a space at the end: %q", len(line)-1, line)
				}
			}
			if *updateTranscripts {
				if err := os.WriteFile(path, []byte(c.head+"\n---\n"+out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(c.want, out); diff != "" {
				t.Errorf("%s (- file, + now):\n%s", filepath.Base(path), diff)
			}
		})
	}
}

// The example of docs/explain.md is one of the transcripts.
func TestExplainDocumentation(t *testing.T) {
	doc, err := os.ReadFile("../../docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	c := readExplainCase(t, "testdata/explain/tcp6_private_destination.txt")
	want := strings.Replace(c.want, "the command line", "frame 1 of vm.pcapng", 1)
	if !strings.Contains(string(doc), want) {
		t.Errorf("docs/explain.md does not show\n%s", want)
	}
}

const plainUDP = "600000000014114020010db80064000000000000000000020064ff9b0000000000000000c633640204d20035001453e7000102030405060708090a0b"

// All ways to give a packet come to the same.
func TestExplainInputs(t *testing.T) {
	file := writeConfig(t, "[router]\neam = [{ ipv6 = \"2001:db8:64::2\", ipv4 = \"192.0.2.2\" }]\n")
	raw, err := hex.DecodeString(plainUDP)
	if err != nil {
		t.Fatal(err)
	}
	spaced := strings.Fields(fmt.Sprintf("% x", raw))
	for _, tt := range []struct {
		name, stdin string
		args        []string
	}{
		{"hexadecimal", "", []string{plainUDP}},
		{"words", "", spaced},
		{"standard input", plainUDP + "\n", []string{"-"}},
		{"text", packettext.Format(raw), []string{"-"}},
		{"Ethernet header", "", []string{"02 00 00 00 00 01 02 00 00 00 00 02 86 dd " + plainUDP}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			root := newRootCommand()
			root.SetArgs(append([]string{"explain", "-c", file, "-o", "json"}, tt.args...))
			root.SetIn(strings.NewReader(tt.stdin))
			root.SetOut(&out)
			root.SetErr(&errs)
			if err := root.Execute(); err != nil {
				t.Fatal(err)
			}
			var r struct {
				Verdict struct{ Label string }
				Before  struct{ Hex string }
				After   struct {
					Hex    string
					Fields []struct{ Name, Value string }
				}
			}
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			if r.Verdict.Label != "forward" || r.Before.Hex != plainUDP || len(r.After.Hex) != 80 || len(r.After.Fields) == 0 {
				t.Errorf("%s", out.String())
			}
		})
	}
}

// What is wrong is a sentence with what, where and how to put it right: status 2
// for the command line, 1 for what can't be read.
func TestExplainWrongInput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "no.pcap")
	if err := os.WriteFile(file, []byte("hello, this is no capture at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"no packet", nil, 2, "which packet? Give it in hexadecimal, - for standard input, or --pcap FILE --frame N"},
		{"two packets", []string{"--pcap", "x.pcap", "4500"}, 2, "a packet and --pcap are two packets; give one of them"},
		{"frame without file", []string{"--frame", "3", "4500"}, 2, "--frame is about a capture file; give one with --pcap"},
		{"frame 0", []string{"--pcap", "x.pcap", "--frame", "0"}, 2, "frames are counted from 1"},
		{"MTU", []string{"--mtu-out", "-1", "4500"}, 2, "--mtu-out -1: write bytes of IP packet"},
		{"MTU in", []string{"--mtu-in", "200000", "4500"}, 2, "--mtu-in 200000: write bytes of IP packet"},
		{"segment size", []string{"--segment-size", "70000", "4500"}, 2, "--segment-size 70000: write bytes of payload"},
		{"output", []string{"-o", "yaml", "4500"}, 2, `--output "yaml": write text or json`},
		{"own", []string{"--own", "here", "4500"}, 2, `--own "here" is no IP address`},
		{"port", []string{"--in", "eth9", "4500"}, 2, "--in eth9: the configuration has no such port; there is wire, kernel"},
		{"port and offload", []string{"--in", "wire", "--partial-checksum", "4500"}, 2, "only packets by the TUN device say that a checksum is partial"},
		{"unknown flag", []string{"--colour"}, 2, "unknown flag: --colour"},
		{"no such configuration", []string{"-c", "nosuch.toml", "4500"}, 1, "nosuch.toml: no such file"},
		{"letters", []string{"45 00 zz"}, 1, `line 1, column 7: 'z' is no hexadecimal digit; a packet is written as pairs`},
		{"odd", []string{"450"}, 1, "there are 3 hexadecimal digits, and two make a byte"},
		{"empty", []string{" "}, 1, "the packet is empty"},
		{"no such capture", []string{"--pcap", "nosuch.pcap"}, 1, "nosuch.pcap: no such file"},
		{"no capture", []string{"--pcap", file}, 1, "it is neither pcap nor pcapng, or damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, out, errs := isthmus(append([]string{"explain"}, tt.args...)...)
			if status != tt.status || !strings.Contains(errs, tt.want) || out != "" {
				t.Errorf("status %d, %s%s", status, errs, out)
			}
			if !strings.HasPrefix(errs, "isthmus: ") || tt.status == 1 && strings.Count(errs, "\n") != 1 {
				t.Errorf("not a sentence: %q", errs)
			}
		})
	}
}
