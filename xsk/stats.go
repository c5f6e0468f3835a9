package xsk

import (
	"fmt"
	"sync/atomic"
)

// counters are written by the worker, once per batch, and read by Stats.
type counters struct {
	received, sent, completed, txRejected  atomic.Uint64
	kicks, kickAgain, kickBusy, kickNoBufs atomic.Uint64
	kickFailed, fillKicks                  atomic.Uint64
}

// Stats are a socket's counters since Open. All count frames unless said.
type Stats struct {
	Received   uint64 // taken by Recv
	Sent       uint64 // put into the tx ring
	Completed  uint64 // came back through the completion ring
	TxRejected uint64 // Send refused the descriptor: a fault of the caller
	TxDropped  uint64 // the device dropped it although it completed (EBUSY)

	Kicks      uint64 // Flush calls that woke the kernel
	KickAgain  uint64 // of those, stopped for want of room (EAGAIN)
	KickNoBufs uint64 // of those, stopped for want of memory (ENOBUFS)
	KickFailed uint64 // of those, failed
	FillKicks  uint64 // wake-ups for the fill ring (zero-copy)

	// The kernel's own, XDP_STATISTICS.
	RxDropped            uint64 // no chunk in the fill ring, or the frame was larger than a chunk
	RxInvalidDescs       uint64 // bad address in the fill ring: a fault of ours
	TxInvalidDescs       uint64 // bad descriptor in the tx ring: a fault of ours
	RxRingFull           uint64 // we are too slow
	RxFillRingEmptyDescs uint64 // times (not frames) the fill ring was empty
	TxRingEmptyDescs     uint64 // times the kernel found nothing to send
}

// Stats reads all counters. Any goroutine may call it.
func (s *Socket) Stats() (Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.counters
	st := Stats{
		Received: c.received.Load(), Sent: c.sent.Load(), Completed: c.completed.Load(),
		TxRejected: c.txRejected.Load(), TxDropped: c.kickBusy.Load(),
		Kicks: c.kicks.Load(), KickAgain: c.kickAgain.Load(), KickNoBufs: c.kickNoBufs.Load(),
		KickFailed: c.kickFailed.Load(), FillKicks: c.fillKicks.Load(),
	}
	if s.fd < 0 {
		return st, fmt.Errorf("%s: %w", s.where(), ErrClosed)
	}
	k, err := kernelStatistics(s.fd)
	if err != nil {
		return st, fmt.Errorf("%s: read statistics: %w", s.where(), err)
	}
	st.RxDropped, st.RxInvalidDescs, st.TxInvalidDescs = k.Rx_dropped, k.Rx_invalid_descs, k.Tx_invalid_descs
	st.RxRingFull, st.RxFillRingEmptyDescs, st.TxRingEmptyDescs = k.Rx_ring_full, k.Rx_fill_ring_empty_descs, k.Tx_ring_empty_descs
	return st, nil
}
