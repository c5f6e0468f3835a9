package main

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/proxy"
)

// accessLog writes a line for each request and connection of the web proxy, or
// for some. Whoever reports one does not wait for the disk: a full queue drops
// lines, and counts them.
type accessLog struct {
	logFile
	every   atomic.Int64
	off     atomic.Bool
	queue   chan proxy.Record
	end     chan struct{}
	written sync.WaitGroup
	dropped atomic.Uint64
}

// accessQueue is how many lines may wait for the disk.
const accessQueue = 4096

func newAccessLog(own zerolog.Logger) *accessLog {
	a := &accessLog{
		logFile: logFile{own: own, what: "access", key: "access_log in [proxy]", where: config.AuditOff},
		queue:   make(chan proxy.Record, accessQueue), end: make(chan struct{}),
	}
	a.off.Store(true)
	a.written.Go(a.writer)
	return a
}

func (a *accessLog) use(p *config.Proxy) error {
	if err := a.open(p.AccessLog); err != nil {
		return err
	}
	a.every.Store(int64(p.AccessLogEvery))
	a.off.Store(p.AccessLog == config.AuditOff)
	return nil
}

// close writes what waits. Nobody may report anything after it.
func (a *accessLog) close() {
	close(a.end)
	a.written.Wait()
	a.logFile.close()
}

func (a *accessLog) writer() {
	for {
		select {
		case r := <-a.queue:
			a.line(&r)
		case <-a.end:
			for {
				select {
				case r := <-a.queue:
					a.line(&r)
				default:
					return
				}
			}
		}
	}
}

// startFormat has the milliseconds that the other times of the log lack.
const startFormat = "2006-01-02T15:04:05.000Z07:00"

// ours are results that an operator has to see, each of them.
func ours(r proxy.Result) bool {
	switch r {
	case proxy.Forbidden, proxy.Unreachable, proxy.SlowBackend, proxy.BrokenByVM, proxy.TooMany, proxy.Loop:
		return true
	}
	return false
}

func (a *accessLog) record(r *proxy.Record) {
	if a.off.Load() {
		return
	}
	if n := a.every.Load(); n > 1 && !ours(r.Result) && rand.Int64N(n) != 0 {
		return
	}
	select {
	case a.queue <- *r:
	default:
		a.dropped.Add(1)
	}
}

// line writes one. All that is a visitor's own words is quoted, since people read
// logs on terminals.
func (a *accessLog) line(r *proxy.Record) {
	a.write(func(e *zerolog.Event) {
		if r.ID != "" {
			e.Str("id", r.ID)
		}
		e.Str("protocol", r.Protocol.String()).Str("client", r.Client.String())
		for _, s := range []struct{ key, word string }{{"host", r.Host}, {"project", r.Project}, {"method", r.Method}, {"path", r.Path}} {
			if s.word != "" {
				e.Str(s.key, clientWord(s.word))
			}
		}
		if r.Status != 0 {
			e.Int("status", r.Status)
		}
		if r.Backend.IsValid() {
			e.Str("vm", r.Backend.String())
		}
		e.Str("start", r.Start.UTC().Format(startFormat)).Float64("seconds", r.Took.Seconds()).
			Float64("connect_seconds", r.Connect.Seconds()).Float64("first_byte_seconds", r.First.Seconds()).
			Uint64("up_bytes", r.Up).Uint64("down_bytes", r.Down).Str("result", r.Result.String())
		if r.Why != "" {
			e.Str("why", clientWord(r.Why))
		}
		e.Msg("proxy")
	})
}
