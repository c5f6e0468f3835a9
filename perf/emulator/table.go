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

// table prints what ran where, what was skipped and why, and what failed.
func table(out io.Writer, results []*Result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nmachine\tkernel\tpages\tran\tpassed\tfailed\tskipped\ttime\tCPU\t")
	bad := 0
	for _, r := range results {
		if r.LeftOut != "" {
			fmt.Fprintf(w, "%s\tleft out\t\t\t\t\t\t\t\t\n", r.Machine.Name)
			continue
		}
		passed := 0
		for _, j := range r.Jobs {
			passed += j.Passed
		}
		fmt.Fprintf(w, "%s\t%s %s\t%d K\t%s\t%d\t%d\t%d\t%v\t%v\t\n", r.Machine.Name, r.Machine.Arch, r.Release, r.Pages>>10,
			r.ran(), passed, len(r.Failed), len(r.Skipped), r.Took.Round(time.Second), r.CPU.Round(time.Second))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.LeftOut != "" {
			fmt.Fprintf(out, "%s was left out: %s\n", r.Machine.Name, r.LeftOut)
		}
		reasons := map[string]int{}
		for _, s := range r.Skipped {
			reasons[s.Text]++
		}
		for _, reason := range slices.Sorted(maps.Keys(reasons)) {
			fmt.Fprintf(out, "%s: %d skipped: %s\n", r.Machine.Name, reasons[reason], reason)
		}
	}
	for _, r := range results {
		bad += r.failures(out)
	}
	if bad > 0 {
		return fmt.Errorf("%d failed, see above", bad)
	}
	return nil
}

// ran names the packages whose tests ran, or counts them, and what else did.
func (r *Result) ran() string {
	var packages, more []string
	for _, j := range r.Jobs {
		if name, ok := strings.CutPrefix(j.Job, "isthmus "); ok {
			more = append(more, name)
		} else {
			packages = append(packages, j.Job)
		}
	}
	if len(packages) > 4 {
		packages = []string{fmt.Sprintf("%d packages", len(packages))}
	}
	return strings.Join(append(packages, more...), ", ")
}

// failures shows what failed, and counts it.
func (r *Result) failures(out io.Writer) (bad int) {
	for _, f := range r.Failed {
		fmt.Fprintf(out, "\n%s: %s: %s FAILED\n%s\n", r.Machine.Name, f.Job, f.Test, indent(f.Text))
	}
	for _, j := range r.Jobs {
		if !j.OK {
			bad++
			fmt.Fprintf(out, "\n%s: %s FAILED: %s\n", r.Machine.Name, j.Job, indent(j.Text))
		} else if r.empty(j) {
			bad++
			fmt.Fprintf(out, "\n%s: %s FAILED: it ran no test\n", r.Machine.Name, j.Job)
		}
	}
	for _, s := range r.Skipped {
		if !r.Machine.mayskip(s.Text) {
			bad++
			fmt.Fprintf(out, "\n%s: %s: %s FAILED: it must not be skipped here: %s\n", r.Machine.Name, s.Job, s.Test, s.Text)
		}
	}
	if r.Err != nil {
		bad++
		fmt.Fprintf(out, "\n%s FAILED: %v\n", r.Machine.Name, r.Err)
	}
	return bad
}

// empty tells whether a package ran no test at all.
func (r *Result) empty(j Event) bool {
	isDemo := strings.HasPrefix(j.Job, "isthmus ")
	return !isDemo && j.Passed == 0 && !slices.ContainsFunc(r.Skipped, func(s Event) bool { return s.Job == j.Job })
}

// mayskip tells whether a machine is expected to lack what a test needs. Whatever
// else is missing is a fault of the machine's, which would go unseen.
func (m *Machine) mayskip(reason string) bool {
	return m.User || slices.ContainsFunc(m.Skips, func(s string) bool { return strings.Contains(reason, s) })
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ")
}
