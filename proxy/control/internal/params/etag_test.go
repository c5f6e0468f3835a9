package params

import (
	"errors"
	"testing"

	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		have, none string
		is         store.Revision // what is there
		want       catalog.Match
		status     int // 412, 400, or 0
	}{
		{"", "", 7, catalog.Match{}, 0},
		{"", "*", 7, catalog.Match{Absent: true}, 0},
		{`"7"`, "", 7, catalog.Match{Revision: 7}, 0},
		{`"8"`, "", 7, catalog.Match{Revision: 8}, 0}, // the catalog compares
		{`*`, "", 7, catalog.Match{Revision: 7}, 0},
		{`*`, "", 0, catalog.Match{}, 412},
		{`"6", "7"`, "", 7, catalog.Match{Revision: 7}, 0},
		{`"6" ,"8"`, "", 7, catalog.Match{}, 412},
		{`W/"7"`, "", 7, catalog.Match{}, 412}, // strong comparison
		{`W/"7", "7"`, "", 7, catalog.Match{Revision: 7}, 0},
		{`"x"`, "", 7, catalog.Match{}, 412},
		{`"07"`, "", 7, catalog.Match{}, 412},
		{`"0"`, "", 0, catalog.Match{}, 412},
		{`"-7"`, "", 7, catalog.Match{}, 412},
		{`"99999999999999999999"`, "", 7, catalog.Match{}, 412},
		{`7`, "", 7, catalog.Match{}, 400},
		{`"7`, "", 7, catalog.Match{}, 400},
		{`"7""8"`, "", 7, catalog.Match{}, 400},
		{`"7",`, "", 7, catalog.Match{}, 400},
		{"", `"7"`, 7, catalog.Match{}, 400},
		{`"7"`, "*", 7, catalog.Match{}, 400},
	} {
		h := Conditions{IfMatch: c.have, IfNoneMatch: c.none}
		got, err := h.Match(func() (store.Revision, error) { return c.is, nil })
		status := 0
		var p *wire.Problem
		switch {
		case errors.Is(err, store.ErrConflict):
			status = 412
		case errors.As(err, &p):
			status = p.Status
		case err != nil:
			t.Error(err)
		}
		if got != c.want || status != c.status {
			t.Errorf("If-Match %q, If-None-Match %q: %+v, %d, %v", c.have, c.none, got, status, err)
		}
	}
}

func TestUnchanged(t *testing.T) {
	for header, want := range map[string]bool{
		`"7"`: true, `W/"7"`: true, `"6", "7"`: true, `*`: true,
		`"8"`: false, `7`: false, ``: false, `"7`: false,
	} {
		if unchanged(header, `"7"`) != want {
			t.Errorf("%s: not %v", header, want)
		}
	}
}
