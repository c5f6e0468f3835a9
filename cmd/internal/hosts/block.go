package hosts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// The block, with the rest of the file around it:
//
//	# BEGIN isthmus hosts sha256:0123456789abcdef (do not edit; see isthmus hosts --help)
//	64:ff9b::8c52:7904 github.com
//	# END isthmus hosts
//
// The sum is that of the lines between, so that an edit by hand is noticed. "nl"
// before it says that the line break in front of the block was not the file's.
const (
	beginMark = "# BEGIN isthmus hosts"
	endMark   = "# END isthmus hosts"
	beginHint = "(do not edit; see isthmus hosts --help)"
	sumLength = 16 // hexadecimal digits; against accidents, not against attackers
)

var beginLine = regexp.MustCompile(`^` + beginMark + ` (nl )?sha256:([0-9a-f]{16}) `)

// ErrEdited says that the block is not as it was written.
var ErrEdited = errors.New("the block of isthmus hosts was edited by hand")

// block is where the block stands within a file.
type block struct {
	begin, body, end, after int  // offsets: first line, lines between, last line, behind it
	addedNewline            bool // see "nl" above
	intact                  bool
}

// findBlock gives the file's block, or nil. A block that cannot be told from the
// rest of the file is an error, whatever the user says: somebody else's lines
// might be taken for ours.
func findBlock(file []byte) (*block, error) {
	var b *block
	open := false
	number := 0
	for at := 0; at < len(file); {
		next := len(file)
		if i := bytes.IndexByte(file[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		number++
		line := strings.TrimRight(string(file[at:next]), "\r\n\t ")
		switch {
		case isMark(line, beginMark) && (open || b != nil):
			return nil, fmt.Errorf("line %d: a second block of isthmus hosts; remove one of the two by hand", number)
		case isMark(line, beginMark):
			b = &block{begin: at, body: next}
			open = true
			if m := beginLine.FindStringSubmatch(line); m != nil {
				b.addedNewline = m[1] != ""
			}
		case isMark(line, endMark) && !open:
			return nil, fmt.Errorf("line %d: the end of a block of isthmus hosts without its beginning; remove what is left of it by hand", number)
		case isMark(line, endMark):
			b.end, b.after = at, next
			open = false
		}
		at = next
	}
	if open {
		return nil, errors.New("the block of isthmus hosts has no end; remove what is left of it by hand")
	}
	if b != nil {
		b.intact = bytes.Equal(file[b.begin:b.after], render(file[b.body:b.end], b.addedNewline))
	}
	return b, nil
}

func isMark(line, mark string) bool {
	rest, ok := strings.CutPrefix(line, mark)
	return ok && (rest == "" || rest[0] == ' ')
}

// render writes a block around its lines.
func render(body []byte, addedNewline bool) []byte {
	sum := sha256.Sum256(body)
	nl := ""
	if addedNewline {
		nl = "nl "
	}
	out := fmt.Appendf(nil, "%s %ssha256:%s %s\n", beginMark, nl, hex.EncodeToString(sum[:])[:sumLength], beginHint)
	out = append(out, body...)
	return append(out, endMark+"\n"...)
}

// Edit gives the file with exactly these lines in its block, and everything else
// byte for byte as it was. No lines: no block. A block that is not as it was
// written is ErrEdited, unless force is set.
func Edit(file []byte, lines []string, force bool) ([]byte, error) {
	b, err := findBlock(file)
	if err != nil {
		return nil, err
	}
	if b != nil && !b.intact && !force {
		return nil, ErrEdited
	}
	body := []byte(strings.Join(append(lines, ""), "\n"))
	switch {
	case b == nil && len(lines) == 0:
		return file, nil
	case b == nil:
		added := len(file) > 0 && file[len(file)-1] != '\n'
		out := bytes.Clone(file)
		if added {
			out = append(out, '\n')
		}
		return append(out, render(body, added)...), nil
	case len(lines) > 0:
		return join(file[:b.begin], render(body, b.addedNewline), file[b.after:]), nil
	}
	before := file[:b.begin]
	// With something behind the block, its lines would run together.
	if b.addedNewline && b.after == len(file) {
		before = bytes.TrimSuffix(before, []byte("\n"))
	}
	return join(before, nil, file[b.after:]), nil
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Entry is one line of hosts(5).
type Entry struct {
	Addr  netip.Addr
	Names []string // in lower case
	Line  int      // from 1
	Ours  bool     // within the block
}

// Entries reads a file as hosts(5) says. Lines that it does not understand are
// left out, as the C library does.
func Entries(file []byte) (list []Entry) {
	b, err := findBlock(file)
	if err != nil {
		b = nil
	}
	at := 0
	for i, line := range strings.SplitAfter(string(file), "\n") {
		text, _, _ := strings.Cut(line, "#")
		fields := strings.Fields(strings.ToLower(text))
		if len(fields) > 1 {
			if a, err := netip.ParseAddr(fields[0]); err == nil {
				list = append(list, Entry{a, fields[1:], i + 1, b != nil && at >= b.body && at < b.end})
			}
		}
		at += len(line)
	}
	return list
}
