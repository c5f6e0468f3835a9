package explain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"aarch64.com/isthmus/translate/packettext"
)

// Input is a packet and where it comes from.
type Input struct {
	Packet []byte // IP header first
	Source string // what it was read from
	Notes  []string
}

// TextInput reads a packet in hexadecimal, or as translate/packettext writes it;
// source names where it is from.
func TextInput(text, source string) (Input, error) {
	if words := strings.Fields(text); len(words) > 0 && (words[0] == "ip4" || words[0] == "ip6") {
		if len(text) > maxInput {
			return Input{}, fmt.Errorf("the packet is %d bytes of text, more than %d", len(text), maxInput)
		}
		p, err := packettext.Parse(text)
		return Input{Packet: p, Source: source}, err
	}
	b, err := ParseHex(text)
	if err != nil {
		return Input{}, err
	}
	p, skipped := guess(b)
	in := Input{Packet: p, Source: source}
	if skipped != "" {
		in.Notes = append(in.Notes, skipped+" in front of it")
	}
	return in, nil
}

// CaptureFile reads frame number n, as Wireshark counts from 1, of a pcap or
// pcapng file.
func CaptureFile(path string, n int) (Input, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Input{}, fmt.Errorf("%s: no such file; give the path of a pcap or pcapng file with --pcap", path)
	case err != nil:
		return Input{}, fmt.Errorf("read capture: %w", err)
	}
	defer f.Close()
	in, err := capture(f, n)
	if err != nil {
		return Input{}, fmt.Errorf("%s: %w", path, err)
	}
	in.Source = fmt.Sprintf("frame %d of %s", n, path)
	return in, nil
}

// reader is what both readers of pcapgo are.
type reader interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	LinkType() layers.LinkType
}

// open tells pcapng by its first block (0x0a0d0d0a) from pcap.
func open(r io.Reader) (reader, error) {
	var magic [4]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil {
		return nil, errors.New("it has fewer than 4 bytes, and is neither pcap nor pcapng; record one with `tcpdump -w FILE`")
	}
	whole := io.MultiReader(bytes.NewReader(magic[:]), r)
	var c reader
	var err error
	if magic == [4]byte{0x0a, 0x0d, 0x0d, 0x0a} {
		c, err = pcapgo.NewNgReader(whole, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	} else {
		c, err = pcapgo.NewReader(whole)
	}
	if err != nil {
		return nil, fmt.Errorf("it is neither pcap nor pcapng, or damaged (%w); record one with `tcpdump -w FILE`", err)
	}
	return c, nil
}

// capture reads frame n of an open file.
func capture(r io.Reader, n int) (Input, error) {
	c, err := open(r)
	if err != nil {
		return Input{}, err
	}
	var frame []byte
	var info gopacket.CaptureInfo
	for i := 1; i <= n; i++ {
		frame, info, err = c.ReadPacketData()
		switch {
		case errors.Is(err, io.EOF):
			return Input{}, fmt.Errorf("it has %d frames, and --frame asks for number %d; the first is number 1", i-1, n)
		case err != nil:
			return Input{}, fmt.Errorf("frame %d can't be read (%w): the file is cut or damaged there", i, err)
		}
	}
	link := c.LinkType()
	// With mixed link types, pcapng gives each packet its own.
	if len(info.AncillaryData) > 0 {
		if l, ok := info.AncillaryData[0].(layers.LinkType); ok {
			link = l
		}
	}
	if len(frame) > maxPacket {
		return Input{}, fmt.Errorf("frame %d has %d bytes, more than the %d that an IP packet in a frame can have", n, len(frame), maxPacket)
	}
	p, skipped, err := ip(frame, link)
	if err != nil {
		return Input{}, fmt.Errorf("frame %d: %w", n, err)
	}
	in := Input{Packet: p}
	if skipped != "" {
		in.Notes = append(in.Notes, skipped+" in front of it")
	}
	if info.Length > info.CaptureLength {
		in.Notes = append(in.Notes, fmt.Sprintf("only %d of %d bytes were recorded; use `tcpdump -s 0`", info.CaptureLength, info.Length))
	}
	return in, nil
}
