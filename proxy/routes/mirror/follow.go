package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// need is why everything has to be read, and not only what has changed.
type need string

const (
	needNothing need = ""
	needFirst   need = "it is the first time"
	needHistory need = "the changes since are not known any more"
	needOther   need = "it seems to be another store"
	needDrift   need = "the copy differs from the store"
	needStuck   need = "the watch told nothing though there were changes"
)

var (
	errSilent = fmt.Errorf("%w: the watch is silent", store.ErrUnavailable)
	errRelist = errors.New("everything is read again")
)

// open opens the store, sooner or later; nil: ctx has ended.
func (m *Mirror) open(ctx context.Context) store.Store {
	for wait := m.times.retry; ; wait = min(2*wait, m.times.longest) {
		s, err := m.config.Open(ctx)
		if err == nil {
			return s
		}
		if m.down(err); !sleep(ctx, rand.N(wait)) {
			return nil
		}
	}
}

// follow keeps up with the store until ctx ends. Sessions end whenever something is
// wrong; the next goes on where the last has been.
func (m *Mirror) follow(ctx context.Context, s store.Store) {
	for wait := m.times.retry; ; wait = min(2*wait, m.times.longest) {
		heard := false
		err := m.session(ctx, s, func() { heard = true })
		if ctx.Err() != nil {
			return
		}
		if heard {
			wait = m.times.retry
		}
		switch {
		case errors.Is(err, errRelist):
		case errors.Is(err, store.ErrCompacted):
			m.relist(needHistory)
		default:
			m.down(err)
		}
		// Not all nodes at once.
		if !sleep(ctx, rand.N(wait)) {
			return
		}
	}
}

// session reads everything if it must, and watches from there.
func (m *Mirror) session(ctx context.Context, s store.Store, heard func()) error {
	m.mu.Lock()
	why, v := m.need, m.View()
	if m.stats.Doubt != "" {
		why = needOther
	}
	m.mu.Unlock()
	if why == needNothing {
		same, err := sameStore(ctx, s, v)
		if err != nil {
			return err
		}
		if !same {
			why = needOther
		}
	}
	if why != needNothing {
		if why != needFirst && !sleep(ctx, rand.N(m.spread(v.Counts().All()))) {
			return ctx.Err()
		}
		for {
			doubt, err := m.list(ctx, s, why)
			if err != nil {
				return err
			}
			if m.doubtful(doubt); doubt == "" {
				break
			}
			if err := m.awaitWord(ctx, s); err != nil {
				return err
			}
		}
	}
	m.up()
	return m.watch(ctx, s, heard)
}

// sampled is of how many proxies and projects one has to be as it was.
const sampled = 3

// sameStore tells whether a watch may go on where it has been. In another store, or
// one that has been emptied, the changes after a revision mean something else. A
// list says for sure.
func sameStore(ctx context.Context, s store.Store, v *View) (bool, error) {
	var keys []string
	known := v.sample(sampled)
	for _, e := range known {
		keys = append(keys, e.Key)
	}
	got, now, err := s.Get(ctx, keys...)
	if err != nil {
		return false, err
	}
	same := len(known) == 0
	for _, e := range known {
		same = same || got[e.Key].Created == e.Created
	}
	return same && now >= v.Revision, nil
}

// perListed bounds what lists cost the store if all nodes need one: 500,000 records
// in a second.
const perListed = 2 * time.Microsecond

// spread is over how long nodes spread something that costs as much as reading n
// records.
func (m *Mirror) spread(n int) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(time.Millisecond, time.Duration(m.nodes*n)*perListed)
}

// watch applies changes until something is wrong.
func (m *Mirror) watch(ctx context.Context, s store.Store, heard func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m.mu.Lock()
	if m.need != needNothing {
		m.mu.Unlock()
		return errRelist
	}
	m.stop = cancel
	after := m.View().Revision
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.stop = nil
		m.mu.Unlock()
	}()
	silence := time.AfterFunc(m.times.silence, func() { cancel(errSilent) })
	defer silence.Stop()
	err := s.Watch(ctx, catalog.Serving, after, func(changes []store.Change, through store.Revision) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if through < m.View().Revision {
			m.relist(needOther)
			return errRelist
		}
		heard()
		m.up()
		m.apply(changes, through, false)
		silence.Reset(m.times.silence)
		return nil
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err == nil {
		err = fmt.Errorf("%w: the watch has ended", store.ErrUnavailable)
	}
	return err
}

// relist has everything read again.
func (m *Mirror) relist(why need) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.need = why; m.stop != nil {
		m.stop(errRelist)
	}
}

// list reads everything and applies what differs. It applies nothing if there is
// doubt that it is what it should be.
func (m *Mirror) list(ctx context.Context, s store.Store, why need) (doubt string, err error) {
	v := m.View()
	was := Stats{}
	m.mu.Lock()
	was = m.stats
	m.mu.Unlock()
	var l listing
	l.there = make(map[string]struct{}, v.Counts().All()+v.Counts().Projects)
	revision, err := s.List(ctx, catalog.Serving, func(e store.Entry) error {
		l.entry(v, e)
		return nil
	})
	if err != nil {
		return "", err
	}
	l.gone(v, revision)
	if doubt = l.doubt(v, revision); doubt != "" {
		return doubt, nil
	}
	m.mu.Lock()
	m.need = needNothing
	if why != needFirst {
		m.stats.Relists++
	}
	repaired := 0
	if was.Loaded == FromStore && revision >= v.Revision && l.shared > 0 {
		if repaired = l.overdue; why == needDrift {
			repaired += l.lost
		}
		m.stats.Repaired += uint64(repaired)
	}
	if why == needDrift && repaired == 0 {
		m.muted = time.Now().Add(m.times.mute)
	}
	m.mu.Unlock()
	m.apply(l.changes, revision, true)
	m.loaded(FromStore)
	switch counts := m.View().Counts(); {
	case repaired > 0:
		m.config.Log(true, fmt.Sprintf("routes: %d records were not as in the store, and have been put right; please report this", repaired))
	case why == needFirst:
		m.config.Log(false, fmt.Sprintf("routes: %d of the store (revision %d; %d proxies are not served)", counts.Proxies[Served], revision, counts.Skipped()))
	default:
		m.config.Log(false, fmt.Sprintf("routes: all of the store read again, since %s: %d changes, now %d routes (revision %d)",
			why, len(l.changes), counts.Proxies[Served], revision))
	}
	return "", nil
}

// listing compares what is listed with what has been there.
type listing struct {
	changes []store.Change
	there   map[string]struct{}
	shared  int // records of before, maybe changed
	lost    int // records of before that are not there
	overdue int // records that a watch should have told of
}

func (l *listing) entry(v *View, e store.Entry) {
	l.there[e.Key] = struct{}{}
	was, known := v.entry(e.Key)
	same := known && was.Created == e.Created
	if same && isRecord(e.Key) {
		l.shared++
	}
	if same && was.Modified == e.Modified && bytes.Equal(was.Value, e.Value) {
		return
	}
	if e.Modified <= v.Revision && isRecord(e.Key) {
		l.overdue++
	}
	l.changes = append(l.changes, store.Change{Entry: e})
}

func (l *listing) gone(v *View, revision store.Revision) {
	for e := range v.entries() {
		if _, ok := l.there[e.Key]; ok {
			continue
		}
		if isRecord(e.Key) {
			l.lost++
		}
		l.changes = append(l.changes, store.Change{Entry: store.Entry{Key: e.Key, Modified: revision}, Gone: true})
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
