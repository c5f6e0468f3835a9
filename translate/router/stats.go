package router

import (
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router/nat44"
	"aarch64.com/isthmus/xsk"
)

// Stats is a copy of all counters, since the router was opened.
type Stats struct {
	Workers []WorkerStats
	Ports   []PortStats
	// Tables counts how often the mirror of the kernel's routes was rebuilt.
	Tables uint64
	// Policy tells that routing rules make all packets take the kernel's way.
	Policy bool
	// Mappings is how many hosts have an address of the dynamic pool.
	Mappings int
	// FastPath is what no worker has seen, because the kernel did it. It is
	// not in Workers, but in Verdicts.
	FastPath FastPathStats
	// Share is what the NAT of [router.share] counted; all 0 without it.
	Share nat44.Stats
	// Rebuilds counts how often workers were replaced, after a device had
	// gone or come back.
	Rebuilds uint64
}

// Verdicts counts all packets by what became of them, whoever translated them:
// index 0 for those that came as IPv6, 1 for IPv4.
func (s *Stats) Verdicts() (all [2][translate.NumVerdicts]uint64) {
	for i := range s.Workers {
		for d := range all {
			for v, n := range s.Workers[i].Verdicts[d] {
				all[d][v] += n
			}
		}
	}
	for d, n := range s.FastPath.Packets() {
		all[d][translate.Forward] += n
	}
	return all
}

// WorkerStats are the counters of one worker.
type WorkerStats struct {
	ID  int
	CPU int // -1: not pinned
	// Verdicts count packets by what the translator said: index 0 for those
	// that came as IPv6, 1 for IPv4.
	Verdicts [2][translate.NumVerdicts]uint64
	Reasons  [NumReasons]uint64
	Kernel   PortCounters
	Wire     []WireStats
}

// WireStats are the counters of one queue of an AF_XDP port.
type WireStats struct {
	Port string
	PortCounters
	ZeroCopy bool
	Socket   xsk.Stats // since the socket was opened, which is anew after a device had gone
}

// PortStats are what is counted per interface, by the steering program.
type PortStats struct {
	Interface string
	Attached  bool
	Mode      xsk.AttachMode
	Steering  xsk.SteerCounters
}

// snapshot copies the worker's counters. Only the worker itself calls it, or
// whoever has seen it end.
func (w *worker) snapshot() WorkerStats {
	s := WorkerStats{ID: w.id, CPU: w.cpu, Verdicts: w.verdicts, Reasons: w.reasons, Kernel: w.kernel.count}
	for _, p := range w.wire {
		if p == nil {
			continue
		}
		ws := WireStats{Port: p.name, PortCounters: p.count, ZeroCopy: p.sock.Mode() == xsk.ZeroCopyMode}
		// A socket whose device has gone has no statistics any more.
		ws.Socket, _ = p.sock.Stats()
		s.Wire = append(s.Wire, ws)
	}
	return s
}

// add accumulates what an earlier worker of the same number had counted.
func (s *WorkerStats) add(old *WorkerStats) {
	for d := range s.Verdicts {
		for v := range s.Verdicts[d] {
			s.Verdicts[d][v] += old.Verdicts[d][v]
		}
	}
	for r := range s.Reasons {
		s.Reasons[r] += old.Reasons[r]
	}
	s.Kernel.add(&old.Kernel)
	for i := range old.Wire {
		s.addWire(&old.Wire[i])
	}
}

func (s *WorkerStats) addWire(old *WireStats) {
	for i := range s.Wire {
		if w := &s.Wire[i]; w.Port == old.Port {
			w.PortCounters.add(&old.PortCounters)
			return
		}
	}
	s.Wire = append(s.Wire, *old)
}

func (c *PortCounters) add(old *PortCounters) {
	c.RxPackets += old.RxPackets
	c.RxBytes += old.RxBytes
	c.TxPackets += old.TxPackets
	c.TxBytes += old.TxBytes
}
