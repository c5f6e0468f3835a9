package xsk

import (
	"errors"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
)

// TestEcho100k: every frame comes back once, in order, and every chunk is
// accounted for afterwards.
func TestEcho100k(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	u := newUMEM(t, 4096)
	s := w.open(u, SocketConfig{})
	p := w.program(w.tables(), AttachAuto)
	if p.Mode() != Driver || s.Mode() != Copy {
		t.Errorf("attached in %v mode, socket in %v mode; veth has driver and copy", p.Mode(), s.Mode())
	}
	if err := p.Register(0, s); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error)
	go func() { done <- forward(u, s, s, stop) }()
	// Counters are read while frames flow, as a metrics collector does.
	collector := make(chan struct{})
	go func() {
		defer close(collector)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			_, err := s.Stats()
			_, err2 := p.Counters()
			if err := errors.Join(err, err2, s.State()); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	start := time.Now()
	err := pump(w, w, n, 256, 70, oneFlow)
	took := time.Since(start)
	close(stop)
	<-collector
	if e := <-done; e != nil {
		t.Fatal(e)
	}
	if err != nil {
		t.Fatal(err)
	}
	a := audited(t, u)
	st, err := s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Received != uint64(n) || st.Sent != uint64(n) || st.Completed != uint64(n) || st.RxDropped+st.RxInvalidDescs+st.TxInvalidDescs+st.TxDropped != 0 {
		t.Errorf("statistics: %+v", st)
	}
	c, err := p.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if c.Redirected != uint64(n) || c.NoSocket != 0 {
		t.Errorf("steering: %+v", c)
	}
	t.Logf("%d frames in %v (%.3f Mpps, sender and receiver are packet sockets)", n, took.Round(time.Millisecond), float64(n)/took.Seconds()/1e6)
	t.Logf("%+v\n%+v\n%+v", a, st, c)
}
