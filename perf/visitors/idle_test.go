package visitors

import (
	"bufio"
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestIdle: the idle timeout is what ends silent connections, and nothing else
// does.
func TestIdle(t *testing.T) {
	t.Parallel()
	site := route{"app.example", vmAddr, "http = 8080\nhttps = 8443"}
	const idle, long = time.Second, 3500 * time.Millisecond
	limit := func(d time.Duration) string {
		return fmt.Sprintf("[proxy.timeouts]\nidle = '%v'\n", d)
	}
	w := newWorld(t, limit(idle), site)
	w.app(w.vm, "app", w.certs.identity("app.example"))
	d := w.start()

	// Both kinds of WebSockets, silent or not. A silent one is read from, which
	// fails when the proxy ends it.
	var all sync.WaitGroup
	for _, scheme := range []string{"http", "https"} {
		silent, busy := w.webSocket(scheme, "app.example"), w.webSocket(scheme, "app.example")
		must(t, echoes(w.timeout(), silent))
		all.Go(func() {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, _, err := silent.Read(ctx); err == nil || ctx.Err() != nil || time.Since(began) < idle*9/10 {
				t.Errorf("%s, silent: %v after %v", scheme, err, time.Since(began))
			}
		})
		all.Go(func() {
			for began := time.Now(); time.Since(began) < long; time.Sleep(idle / 5) {
				if err := echoes(w.timeout(), busy); err != nil {
					t.Errorf("%s, not silent: %v after %v", scheme, err, time.Since(began))
					return
				}
			}
		})
	}
	all.Wait()
	for _, protocol := range []string{"upgraded", "tls"} {
		w.logged("an idle "+protocol, func(l line) bool { return l.Protocol == protocol && l.Result == "idle" })
	}

	// With a longer one the same silence ends nothing.
	w.configure(limit(time.Hour))
	must(t, d.Cmd.Process.Signal(syscall.SIGHUP))
	w.until("the configuration is reloaded", func() bool { return d.hasSaid(`"message":"reloaded"`) })
	var open []func() error
	for _, scheme := range []string{"http", "https"} {
		c := w.webSocket(scheme, "app.example")
		open = append(open, func() error { return echoes(w.timeout(), c) })
	}
	c, err := w.connect("https", "app.example")
	must(t, err)
	k := &keptOpen{c, bufio.NewReader(c)}
	open = append(open, func() error {
		got, err := k.get("app.example", "/who")
		if err == nil && got != "app" {
			err = fmt.Errorf("%q", got)
		}
		return err
	})
	for _, works := range open {
		must(t, works())
	}
	time.Sleep(idle * 5 / 2)
	for i, works := range open {
		if err := works(); err != nil {
			t.Errorf("connection %d after silence: %v", i, err)
		}
	}
}
