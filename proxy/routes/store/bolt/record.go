package bolt

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"aarch64.com/isthmus/proxy/routes/store"
)

// An entry's record. All numbers are big-endian.
//
//	 0     4          12         20    21
//	+-----+----------+----------+-----+-------+
//	| crc | created  | modified |flags| value |
//	+-----+----------+----------+-----+-------+
//
// The checksum covers the key and what follows the checksum.
const (
	createdAt  = 4
	modifiedAt = 12
	flagsAt    = 20
	valueAt    = 21
)

// Flags of entries and changes.
const (
	announced = 1 << iota // goes with this process
	gone                  // a change that removed the key
)

// castagnoli has an instruction on amd64 and arm64.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errChecksum = errors.New("wrong checksum")

func checksum(key, rest []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, rest)
}

// record is what is stored about a key.
type record struct {
	created, modified store.Revision
	flags             byte
	value             []byte
}

func (r record) encode(key string) []byte {
	b := make([]byte, valueAt+len(r.value))
	binary.BigEndian.PutUint64(b[createdAt:], uint64(r.created))
	binary.BigEndian.PutUint64(b[modifiedAt:], uint64(r.modified))
	b[flagsAt] = r.flags
	copy(b[valueAt:], r.value)
	binary.BigEndian.PutUint32(b, checksum([]byte(key), b[createdAt:]))
	return b
}

// decode does not copy the value.
func decode(key, b []byte) (record, error) {
	if len(b) < valueAt || binary.BigEndian.Uint32(b) != checksum(key, b[createdAt:]) {
		return record{}, errChecksum
	}
	return record{
		created:  store.Revision(binary.BigEndian.Uint64(b[createdAt:])),
		modified: store.Revision(binary.BigEndian.Uint64(b[modifiedAt:])),
		flags:    b[flagsAt],
		value:    b[valueAt:],
	}, nil
}

// entry copies the record, which is the file's.
func (r record) entry(key []byte) store.Entry {
	return store.Entry{Key: string(key), Value: append([]byte{}, r.value...), Created: r.created, Modified: r.modified}
}

// A commit's record in the history is a checksum and then, for each change:
// flags, created, length of the key, key, length of the value, value; numbers are
// varints.

// appendChange adds a change to a commit's record.
func appendChange(b []byte, key string, r record) []byte {
	if len(b) == 0 {
		b = make([]byte, createdAt, createdAt+64+len(key)+len(r.value))
	}
	b = append(b, r.flags)
	b = binary.AppendUvarint(b, uint64(r.created))
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(b, key...)
	b = binary.AppendUvarint(b, uint64(len(r.value)))
	return append(b, r.value...)
}

// seal writes the checksum of a commit's record.
func seal(revision, b []byte) {
	binary.BigEndian.PutUint32(b, checksum(revision, b[createdAt:]))
}

// eachChange calls f with the changes of a commit's record; nothing is copied.
func eachChange(revision, b []byte, f func(key []byte, r record)) error {
	if len(b) < createdAt || binary.BigEndian.Uint32(b) != checksum(revision, b[createdAt:]) {
		return errChecksum
	}
	modified := store.Revision(binary.BigEndian.Uint64(revision))
	rest := b[createdAt:]
	number := func() uint64 {
		n, size := binary.Uvarint(rest)
		if size <= 0 {
			rest = nil
			return 0
		}
		rest = rest[size:]
		return n
	}
	bytes := func() []byte {
		n := number()
		if n > uint64(len(rest)) {
			rest = nil
			return nil
		}
		b := rest[:n:n]
		rest = rest[n:]
		return b
	}
	for len(rest) > 0 {
		r := record{modified: modified, flags: rest[0]}
		rest = rest[1:]
		r.created = store.Revision(number())
		key := bytes()
		r.value = bytes()
		f(key, r)
	}
	return nil
}

func encodeRevision(r store.Revision) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(r))
}

func decodeRevision(b []byte) (store.Revision, error) {
	if len(b) != 8 {
		return 0, errors.New("a revision is not there or not of 8 bytes")
	}
	return store.Revision(binary.BigEndian.Uint64(b)), nil
}
