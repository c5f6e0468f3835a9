package visitors

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// load is visitors that come one after the other, each with a connection of its
// own, until it is ended.
type load struct {
	end    chan struct{}
	all    sync.WaitGroup
	served atomic.Int64
}

func (w *world) load(urls ...string) *load {
	l := &load{end: make(chan struct{})}
	for _, url := range urls {
		l.all.Go(func() {
			const each = 40
			for {
				select {
				case <-l.end:
					return
				default:
				}
				out, err := w.curl("-Z", "--parallel-max", "4", "--parallel-immediate", "--http1.1", "-H", "Connection: close",
					"-w", "%{http_code}\n", fmt.Sprintf("%s?[1-%d]", url, each))
				if n := strings.Count(out, "200\n"); err != nil || n != each {
					w.t.Errorf("%s: %d of %d served, %v", url, n, each, err)
				}
				l.served.Add(each)
			}
		})
	}
	return l
}

func (l *load) stop() {
	close(l.end)
	l.all.Wait()
}

// more waits until the load has come n visitors further.
func (l *load) more(w *world, n int64) {
	w.t.Helper()
	want := l.served.Load() + n
	w.until(fmt.Sprintf("%d more visitors", n), func() bool { return l.served.Load() >= want })
}

// TestTakeover: a new process takes over from an old one, twice, while visitors
// come. None is lost, and what had begun is served to its end.
func TestTakeover(t *testing.T) {
	t.Parallel()
	labtest.NeedProgram(t, "curl", "curl")
	site := route{"app.example", vmAddr, "http = 8080\nhttps = 8443"}
	w := newWorld(t, "drain_timeout = '1m'\n", site)
	a := w.app(w.vm, "app", w.certs.identity("app.example"))
	old := w.start()
	visitors := w.load("http://app.example/who", "https://app.example/who")
	visitors.more(w, 100)
	for range 2 {
		under := map[string]*bufio.Reader{}
		var commands []*exec.Cmd
		for _, scheme := range []string{"http", "https"} {
			c := exec.Command("curl", "-sSN", "--max-time", "60", "--cacert", w.certs.file, scheme+"://app.example/events")
			out, err := c.StdoutPipe()
			must(t, err)
			must(t, w.visitor.Start(c))
			under[scheme], commands = bufio.NewReader(out), append(commands, c)
			if s, err := under[scheme].ReadString('\n'); s != "data: first\n" {
				t.Fatalf("%q, %v", s, err)
			}
		}
		next := w.start()
		began := time.Now()
		must(t, old.Cmd.Process.Signal(syscall.SIGTERM))
		visitors.more(w, 200)
		if ended(old.Process) {
			t.Errorf("the old process has ended with answers under way; it said\n%s", old.Said())
		}
		for range under {
			must(t, a.continued())
		}
		for scheme, r := range under {
			if rest, err := io.ReadAll(r); string(rest) != "\ndata: second\n\n" || err != nil {
				t.Errorf("%s: %q, %v", scheme, rest, err)
			}
		}
		for _, c := range commands {
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
		}
		w.until("the old process ends", func() bool { return ended(old.Process) })
		if old.Err != nil {
			t.Errorf("the old process: %v; it said\n%s", old.Err, old.Said())
		}
		t.Logf("taken over in %d ms", time.Since(began).Milliseconds())
		old = next
	}
	visitors.more(w, 100)
	visitors.stop()
	t.Logf("%d visitors served", visitors.served.Load())
	if testing.Verbose() {
		t.Logf("isthmus status:\n%s", w.status())
	}
}
