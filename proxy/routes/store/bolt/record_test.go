package bolt

import (
	"reflect"
	"testing"
)

// FuzzHistory: whatever has the right checksum is read without harm, and what was
// written is read again.
func FuzzHistory(f *testing.F) {
	whole := appendChange(nil, "key", record{created: 7, flags: announced, value: []byte("value")})
	whole = appendChange(whole, "", record{flags: gone})
	f.Add(whole[createdAt:])
	f.Add([]byte{0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1})
	f.Add([]byte{0, 1, 2, 'k'})
	f.Fuzz(func(t *testing.T, changes []byte) {
		revision := encodeRevision(9)
		read := func(b []byte) (again []byte, list []record) {
			seal(revision, b)
			err := eachChange(revision, b, func(key []byte, r record) {
				r.value = append([]byte{}, r.value...)
				list = append(list, r)
				again = appendChange(again, string(key), r)
			})
			if err != nil {
				t.Fatal(err)
			}
			return again, list
		}
		again, first := read(append(make([]byte, createdAt), changes...))
		if len(first) == 0 {
			return
		}
		if _, second := read(again); !reflect.DeepEqual(first, second) {
			t.Errorf("written as %v, read as %v", first, second)
		}
	})
}
