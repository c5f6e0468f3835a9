package emulator

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"syscall"
	"time"
)

// Job is a program that is run.
type Job struct {
	Name    string
	Dir     string
	Args    []string // the first is the program's path
	Env     []string // on top of a few that all get
	User    uint32   // whose process it is; 0 for that of who runs it
	Seconds int      // it is killed after so many
	Tests   bool     // it speaks as go test -v does
}

// keep is how much of a job's output is shown if it fails, in bytes.
const keep = 16 << 10

// Run runs the job to its end, and tells of its tests and of the end.
func (j Job) Run(ctx context.Context, tell func(Event)) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(j.Seconds)*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, j.Args[0], j.Args[1:]...)
	c.Dir = j.Dir
	c.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "TMPDIR=/tmp"}, j.Env...)
	if j.User != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: j.User, Gid: j.User}}
	}
	c.WaitDelay = 5 * time.Second
	r, w := io.Pipe()
	c.Stdout, c.Stderr = w, w
	begin := time.Now()
	var (
		tail   []byte
		passed int
	)
	read := make(chan struct{})
	go func() {
		defer close(read)
		tail, passed = j.follow(r, tell)
		// What follow could not take must not stop the job.
		_, _ = io.Copy(io.Discard, r)
	}()
	err := c.Run()
	w.Close()
	<-read
	e := Event{Kind: "job", Job: j.Name, OK: err == nil, Passed: passed, Millis: time.Since(begin).Milliseconds()}
	if c.ProcessState != nil { // else it did not start
		e.Used = (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Milliseconds()
	}
	switch {
	case ctx.Err() != nil:
		e.Text = fmt.Sprintf("it did not end within %d s\n%s", j.Seconds, tail)
	case err != nil:
		e.Text = err.Error() + "\n" + string(tail)
	}
	tell(e)
}

// Lines of go test -v that end a test, those that a test logs, and those that say
// which test speaks: a subtest's end is told after that of its parent.
var (
	verdict = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(`)
	logged  = regexp.MustCompile(`^ +\S+\.go:\d+: (.*)`)
	turn    = regexp.MustCompile(`^=== (?:RUN|NAME|CONT) +(\S+)`)
)

// follow tells of tests that failed or were skipped, and gives the end of the
// output and how many passed.
func (j Job) follow(r io.Reader, tell func(Event)) (tail []byte, passed int) {
	var since []byte                         // what came after the last verdict
	current, last := "", map[string]string{} // what each test has logged last
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		tail = clip(append(tail, line...))
		since = clip(append(since, line...))
		text := string(bytes.TrimRight(line, "\n"))
		if m := logged.FindStringSubmatch(text); m != nil {
			last[current] = m[1]
		}
		if m := turn.FindStringSubmatch(text); m != nil {
			current = m[1]
		}
		if m := verdict.FindStringSubmatch(text); m != nil && j.Tests {
			switch m[1] {
			case "PASS":
				passed++
			case "SKIP":
				tell(Event{Kind: "skip", Job: j.Name, Test: m[2], Text: last[m[2]]})
			case "FAIL":
				tell(Event{Kind: "fail", Job: j.Name, Test: m[2], Text: string(since)})
			}
			since = nil
		}
		if err != nil {
			return tail, passed
		}
	}
}

func clip(b []byte) []byte {
	if len(b) > 2*keep {
		b = append(b[:0], b[len(b)-keep:]...)
	}
	return b
}
