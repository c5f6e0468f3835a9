package translate_test

import (
	"testing"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/internal/golden"
)

// TestTraceGolden: Trace comes to each golden packet's verdict, in sentences.
func TestTraceGolden(t *testing.T) {
	cases, err := golden.Load("testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	for i := range cases {
		c := &cases[i]
		t.Run(c.RFC+"/"+c.File+"/"+c.Name, func(t *testing.T) { traceGolden(t, c) })
	}
}

func traceGolden(t *testing.T, c *golden.Case) {
	tr, err := translate.New(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	var pl translate.Plan
	tr.Decide(&pl, c.In, c.Meta)
	in, out := c.MTUs(pl.To)
	steps := tr.Trace(c.In, c.Meta, in, out)
	if len(steps) == 0 {
		t.Fatal("no steps")
	}
	if last := steps[len(steps)-1]; last.Verdict.String() != c.Verdict {
		t.Errorf("Trace says %v (%s), want %s", last.Verdict, last.Text, c.Verdict)
	}
	for _, s := range steps {
		if s.Text == "" || s.Topic == "" || s.Section == "" {
			t.Errorf("step %+v", s)
		}
	}
}
