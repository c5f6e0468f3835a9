package main

import (
	"bytes"
	"testing"
	"time"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router"
)

func TestStatus(t *testing.T) {
	worker := func(n uint64) router.WorkerStats {
		w := router.WorkerStats{Kernel: router.PortCounters{RxPackets: n, TxPackets: 2 * n}}
		w.Wire = []router.WireStats{{Port: "enp1s0", PortCounters: router.PortCounters{RxPackets: 3 * n, TxPackets: 4 * n}}}
		w.Verdicts[0][translate.BadVersion] = n
		w.Verdicts[1][translate.BadVersion] = n
		w.Reasons[router.NoFrame] = n
		return w
	}
	s := makeStatus("", config.Default(), time.Now(), router.Stats{
		Workers: []router.WorkerStats{worker(1), worker(10)},
		Ports:   []router.PortStats{{Interface: "enp1s0", Attached: true}, {Interface: "enp2s0"}},
	})
	s.Version, s.PID = "v1.2.3", 42
	var out bytes.Buffer
	if err := s.print(&out); err != nil {
		t.Fatal(err)
	}
	want := `isthmus         v1.2.3, process 42, up 0s
configuration   built-in defaults
pool6           64:ff9b::/96
mappings (eam)  0
workers         2
enp1s0          driver, 33 packets in, 44 out
enp2s0          absent, 0 packets in, 0 out
isthmus0        tun, 11 packets in, 22 out
packets         bad_version 22
besides         no_frame 11
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
