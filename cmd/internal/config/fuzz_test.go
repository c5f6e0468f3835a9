package config

import (
	"errors"
	"strings"
	"testing"
)

// Whatever the bytes are: no panic, and either a configuration or errors that
// each have a place within the file.
func FuzzParse(f *testing.F) {
	f.Add([]byte(ReferenceTOML()))
	for i := range language {
		s := &language[i]
		for _, k := range s.keys {
			f.Add([]byte(s.header() + "\n" + k.name + " = " + k.example + "\n"))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("x", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("got %v and %v", c, err)
		}
		if err == nil {
			c.Warnings()
			if r := c.NeedRestart(c); r != nil {
				t.Errorf("differs from itself: %v", r)
			}
			return
		}
		var all *Errors
		if !errors.As(err, &all) {
			t.Fatalf("an error of another type: %v", err)
		}
		lines := strings.Split(string(data), "\n")
		for _, e := range all.List {
			if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1 {
				t.Errorf("no such place: %v", e)
			}
			if strings.ContainsAny(e.Error(), "\n\x1b") {
				t.Errorf("control characters in %q", e.Error())
			}
		}
	})
}
