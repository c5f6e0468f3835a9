package emulator

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestWants(t *testing.T) {
	for _, c := range []struct {
		packages string
		pkg      string
		want     bool
	}{
		{"...", "xsk", true},
		{"xsk", "xsk", true},
		{"xsk", "xsk/tun", false},
		{"xsk/...", "xsk", true},
		{"xsk/...", "xsk/tun/fastpath", true},
		{"xsk/...", "xskelse", false},
		{"... !xsk/...", "xsk/tun", false},
		{"... !xsk/... xsk/tun", "xsk/tun", true},
		{"... !xsk", "xsk/tun", true},
		{"", "xsk", false},
	} {
		m := &Machine{Packages: strings.Fields(c.packages)}
		if got := m.wants(c.pkg); got != c.want {
			t.Errorf("%q, %s: %v", c.packages, c.pkg, got)
		}
	}
}

func TestMachines(t *testing.T) {
	list, err := (&Options{Only: []string{"debian12", "nic-igb"}, Packages: []string{"xsk"}}).machines()
	if err != nil || len(list) != 2 || !slices.Equal(list[0].Packages, []string{"xsk"}) {
		t.Errorf("%v, %v", list, err)
	}
	if list, err = (&Options{Only: []string{"debian12"}, Full: true}).machines(); err != nil || !slices.Equal(list[0].Packages, []string{"..."}) || list[0].Tests != nil {
		t.Errorf("full: %v, %v", list, err)
	}
	if _, err = (&Options{Only: []string{"debian12", "debian3"}}).machines(); err == nil || !strings.Contains(err.Error(), "debian3") {
		t.Error(err)
	}
	for _, m := range Machines {
		if _, ok := processors[m.Arch]; !ok || m.NICs > 0 != (m.Card != "") {
			t.Errorf("%+v", m)
		}
	}
}

// TestClosure: a module comes after those it needs, once; what is not there is
// built into the kernel.
func TestClosure(t *testing.T) {
	k := &kernel{modules: t.TempDir()}
	dep := "kernel/a.ko.xz: kernel/b.ko.xz kernel/c-d.ko.xz\nkernel/b.ko.xz: kernel/c-d.ko.xz\nkernel/c-d.ko.xz:\nkernel/e.ko.xz:\n"
	if err := os.WriteFile(filepath.Join(k.modules, "modules.dep"), []byte(dep), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := k.closure("c_d", "a", "built_in", "b")
	if want := []string{"kernel/c-d.ko.xz", "kernel/b.ko.xz", "kernel/a.ko.xz"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(k.modules, "modules.dep"), []byte("nonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := k.closure("a"); err == nil {
		t.Error("a line without a colon was taken")
	}
}

func TestPackagesOf(t *testing.T) {
	depends := map[string][]string{
		"linux-image-arm64":     {"linux-image-6.1.0-1-arm64"},
		"linux-image-new":       {"initramfs-tools", "linux-image-7.2-new"},
		"linux-image-7.2-new":   {"linux-base", "linux-base-7.2-new", "linux-modules-7.2-new", "kmod"},
		"linux-image-of-nought": {"kmod"},
	}
	ask := func(name string) ([]string, error) { return depends[name], nil }
	for meta, want := range map[string]string{
		"linux-image-arm64": "linux-image-6.1.0-1-arm64",
		"linux-image-new":   "linux-image-7.2-new linux-base-7.2-new linux-modules-7.2-new",
	} {
		if got, err := packagesOf(meta, ask); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", meta, got, err)
		}
	}
	if _, err := packagesOf("linux-image-of-nought", ask); err == nil {
		t.Error("a metapackage of no kernel was taken")
	}
}

// TestListen: events are found between what the kernel says, and the rest is kept.
func TestListen(t *testing.T) {
	var got []Event
	tell := func(e Event) { got = append(got, e) }
	console := "\x1b[0mBooting\r\n" + Mark + `{"Kind":"boot","Text":"6.1","Pages":4096}` + "\r\nKernel panic - not syncing: sysrq\n" +
		Mark + "{half an event\n" + Mark + `{"Kind":"job","Job":"xsk","OK":true,"Passed":3}` + "\nno newline at its end"
	ended, rest := listen(strings.NewReader(console), tell)
	if ended || len(got) != 2 || got[0].Pages != 4096 || got[1].Passed != 3 {
		t.Errorf("%v %+v", ended, got)
	}
	for _, want := range []string{"Kernel panic", "half an event", "no newline at its end"} {
		if !strings.Contains(rest, want) {
			t.Errorf("no %q in %q", want, rest)
		}
	}
	if ended, _ := listen(strings.NewReader(Mark+`{"Kind":"end","OK":true}`+"\n"), tell); !ended {
		t.Error("the end was not seen")
	}
}

// TestFollow: the reason of a skip is its own test's, though a subtest's end is told
// after its parent's.
func TestFollow(t *testing.T) {
	output := `=== RUN   TestA
=== RUN   TestA/one
    a_test.go:1: no such thing
=== RUN   TestA/two
    a_test.go:2: goes well
--- PASS: TestA (0.10s)
    --- SKIP: TestA/one (0.01s)
    --- PASS: TestA/two (0.01s)
=== RUN   TestB
    b_test.go:1: want 1, have 2
--- FAIL: TestB (0.10s)
FAIL
`
	var got []Event
	tail, passed := Job{Name: "a", Tests: true}.follow(strings.NewReader(output), func(e Event) { got = append(got, e) })
	if passed != 2 || !strings.HasSuffix(string(tail), "FAIL\n") || len(got) != 2 ||
		got[0] != (Event{Kind: "skip", Job: "a", Test: "TestA/one", Text: "no such thing"}) ||
		got[1].Kind != "fail" || got[1].Test != "TestB" || !strings.Contains(got[1].Text, "want 1, have 2") {
		t.Errorf("%d %+v\n%s", passed, got, tail)
	}
}

// TestTable: whatever went wrong is shown and makes an error.
func TestTable(t *testing.T) {
	m := &Machine{Name: "vm", Arch: "arm64", Skips: []string{"needs Linux 6.2"}}
	job := Event{Kind: "job", Job: "xsk", OK: true, Passed: 2}
	for _, c := range []struct {
		name   string
		result Result
		bad    bool
		want   string
	}{
		{"all well", Result{Jobs: []Event{job}}, false, "arm64 6.1  4 K    xsk  2       0       0"},
		{"expected skip", Result{Jobs: []Event{job}, Skipped: []Event{{Job: "xsk", Text: "it needs Linux 6.2"}}}, false, "vm: 1 skipped: it needs Linux 6.2"},
		{"left out", Result{LeftOut: "no root"}, false, "vm was left out: no root"},
		{"unexpected skip", Result{Jobs: []Event{job}, Skipped: []Event{{Job: "xsk", Test: "TestX", Text: "no veth"}}}, true, "TestX FAILED: it must not be skipped here: no veth"},
		{"failed test", Result{Jobs: []Event{{Job: "xsk", Text: "exit status 1"}}, Failed: []Event{{Job: "xsk", Test: "TestY", Text: "want 1"}}}, true, "vm: xsk: TestY FAILED\n    want 1"},
		{"failed job", Result{Jobs: []Event{{Job: "isthmus demo", Text: "exit status 1"}}}, true, "vm: isthmus demo FAILED"},
		{"no test", Result{Jobs: []Event{{Job: "xsk", OK: true}}}, true, "it ran no test"},
		{"did not end", Result{Jobs: []Event{job}, Err: errors.New("its console")}, true, "vm FAILED: its console"},
	} {
		var out bytes.Buffer
		c.result.Machine, c.result.Release, c.result.Pages, c.result.Took = m, "6.1", 4096, time.Minute
		if err := table(&out, []*Result{&c.result}); (err != nil) != c.bad || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %v\n%s", c.name, err, &out)
		}
	}
}

// TestSweep: what a killed run has left goes, what a live one has stays.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	mine := runPrefix + strconv.Itoa(os.Getpid()) + "-1"
	for _, name := range []string{mine, runPrefix + "4194305-1", runPrefix + "odd", "bookworm-arm64"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "own"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweep(dir); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 || filepath.Base(left[0]) != "bookworm-arm64" || filepath.Base(left[1]) != mine {
		t.Errorf("%v, %v", left, err)
	}
}

// TestWhatIsMissing: no network, no apt, no QEMU: a sentence with the remedy.
func TestWhatIsMissing(t *testing.T) {
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	d := newDebian(t.TempDir(), "bookworm", "arm64")
	want := "check the network"
	if _, err := exec.LookPath("apt-get"); err != nil {
		want = "run this on Debian"
	}
	if _, err := d.depends(t.Context(), "linux-image-arm64"); err == nil || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := d.depends(t.Context(), "linux-image-arm64"); err == nil || !strings.Contains(err.Error(), "run this on Debian") {
		t.Error(err)
	}
	if err := needed(&Machine{Arch: "arm64"}); err == nil || !strings.Contains(err.Error(), "install the package qemu-system-arm (make deps-arm64)") {
		t.Error(err)
	}
}
