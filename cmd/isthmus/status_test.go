package main

import (
	"bytes"
	"testing"
	"time"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router"
	"aarch64.com/isthmus/xsk/tun/fastpath"
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
	s := newStatus("", time.Now(), []string{"router"})
	s.addRouter(config.Default(), router.Stats{
		Workers: []router.WorkerStats{worker(1), worker(10)},
		Ports:   []router.PortStats{{Interface: "enp1s0", Attached: true}, {Interface: "enp2s0"}},
		FastPath: router.FastPathStats{
			Attached: true, Interfaces: []router.FastPathInterface{{Name: "vm0", Attached: true}, {Name: "vm1"}},
			Counters: fastpath.Counters{fastpath.AtDevice: {Packets: [2]uint64{100, 200}}, fastpath.AtInterface: {Packets: [2]uint64{1000, 2000}}},
		},
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
isthmus0        tun, 311 packets in, 322 out
fast path       300 packets at the TUN device, 3000 at interfaces (vm0); not there: vm1
packets         bad_version 22, forward 3300
besides         no_frame 11
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
