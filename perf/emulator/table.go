package emulator

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// table prints what ran where, what failed and what was skipped.
func table(out io.Writer, results []*Result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nmachine\tkernel\tpages\tjobs\ttests passed\tfailed\tskipped\ttime\t")
	bad := 0
	for _, r := range results {
		passed, failed := 0, len(r.Failed)
		for _, j := range r.Jobs {
			passed += j.Passed
			if !j.OK {
				bad++
			}
		}
		fmt.Fprintf(w, "%s (%s)\t%s\t%d K\t%d\t%d\t%d\t%d\t%v\t\n", r.Machine.Name, r.Machine.Arch, r.Release, r.Pages>>10,
			len(r.Jobs), passed, failed, len(r.Skipped), r.Took.Round(time.Second))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		reasons := map[string]int{}
		for _, s := range r.Skipped {
			reasons[s.Text]++
		}
		for _, reason := range slices.Sorted(maps.Keys(reasons)) {
			fmt.Fprintf(out, "%s: %d skipped: %s\n", r.Machine.Name, reasons[reason], reason)
		}
	}
	for _, r := range results {
		for _, f := range r.Failed {
			fmt.Fprintf(out, "\n%s: %s: %s FAILED\n%s\n", r.Machine.Name, f.Job, f.Test, indent(f.Text))
		}
		for _, j := range r.Jobs {
			if !j.OK {
				fmt.Fprintf(out, "\n%s: %s FAILED: %s\n", r.Machine.Name, j.Job, indent(j.Text))
			}
		}
		if r.Err != nil {
			bad++
			fmt.Fprintf(out, "\n%s FAILED: %v\n", r.Machine.Name, r.Err)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d failed, see above", bad)
	}
	return nil
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ")
}
