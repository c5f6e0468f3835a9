package mirror

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// The file of the last copy:
//
//	"isthmus routes 1\n"
//	revision, time in ns since 1970, number of entries
//	for each: length of key, key, length of value, value, created, modified
//	SHA-256 of everything before
//
// Numbers are unsigned and of variable length (encoding/binary).
const diskMagic = "isthmus routes 1\n"

// diskCopy is what a file has.
type diskCopy struct {
	revision store.Revision
	written  time.Time
	entries  []store.Entry
}

func (c *diskCopy) changes() []store.Change {
	list := make([]store.Change, len(c.entries))
	for i, e := range c.entries {
		list[i].Entry = e
	}
	return list
}

func encodeDisk(to io.Writer, v *View, written time.Time) error {
	sum := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(to, sum), 64<<10)
	var b []byte
	_, _ = w.WriteString(diskMagic) // Flush tells of errors
	b = binary.AppendUvarint(b, uint64(v.Revision))
	b = binary.AppendUvarint(b, uint64(written.UnixNano()))
	n := 0
	for range v.entries() {
		n++
	}
	b = binary.AppendUvarint(b, uint64(n))
	for e := range v.entries() {
		b = append(binary.AppendUvarint(b, uint64(len(e.Key))), e.Key...)
		b = append(binary.AppendUvarint(b, uint64(len(e.Value))), e.Value...)
		b = binary.AppendUvarint(b, uint64(e.Created))
		b = binary.AppendUvarint(b, uint64(e.Modified))
		_, _ = w.Write(b)
		b = b[:0]
	}
	_, _ = w.Write(b)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := to.Write(sum.Sum(nil))
	return err
}

var errTorn = errors.New("it is cut off or damaged")

// decodeDisk reads a file.
func decodeDisk(data []byte) (c diskCopy, err error) {
	if !bytes.HasPrefix(data, []byte(diskMagic)) {
		return c, fmt.Errorf("it is no copy of this version of isthmus, which begins with %q", diskMagic)
	}
	end := len(data) - sha256.Size
	if end < len(diskMagic) {
		return c, errTorn
	}
	if sum := sha256.Sum256(data[:end]); !bytes.Equal(sum[:], data[end:]) {
		return c, errTorn
	}
	r := diskReader{data: data[len(diskMagic):end]}
	c.revision = store.Revision(r.number(1 << 62))
	c.written = time.Unix(0, int64(r.number(1<<62)))
	n := r.number(uint64(len(r.data)) / 4) // an entry has four numbers at least
	c.entries = make([]store.Entry, 0, n)
	for range n {
		e := store.Entry{Key: string(r.bytes(store.MaxKey)), Value: bytes.Clone(r.bytes(store.MaxValue))}
		e.Created, e.Modified = store.Revision(r.number(1<<62)), store.Revision(r.number(1<<62))
		c.entries = append(c.entries, e)
	}
	if r.bad || len(r.data) > 0 {
		return diskCopy{}, errTorn
	}
	return c, nil
}

// diskReader reads the front of data, until something is wrong.
type diskReader struct {
	data []byte
	bad  bool
}

func (r *diskReader) number(most uint64) uint64 {
	x, n := binary.Uvarint(r.data)
	if n <= 0 || x > most || r.bad {
		r.bad, r.data = true, nil
		return 0
	}
	r.data = r.data[n:]
	return x
}

func (r *diskReader) bytes(most uint64) []byte {
	n := r.number(min(most, uint64(len(r.data))))
	if n > uint64(len(r.data)) {
		r.bad, r.data = true, nil
		return nil
	}
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}
