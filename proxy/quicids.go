package proxy

import "sync"

// ids finds flows by connection ids, for clients whose address has changed under
// them (RFC 9000 section 9.3): by those that backends have chosen in the clear, and
// the last one that each client was heard with. Only what comes from an unknown
// address, or with an id that its flow was not heard with, is looked up here. A
// client that moves on purpose takes a connection id that only it and the backend
// know (section 9.5); it stays where it was, for its probes get no answer.
type ids struct {
	mu      sync.RWMutex
	flows   map[string]*flow
	lengths [maxCID + 1]int
	guests  map[path]guests
}

// guests are the flows that have come to a path whose datagrams another loop gets.
// That loop has to know of whom they are.
type guests struct {
	owner string
	flows int
}

// minMover: shorter connection ids are found by chance.
const (
	minMover = 8
	maxCID   = 20
)

func (m *ids) add(cid []byte, f *flow) {
	if len(cid) < minMover || len(cid) > maxCID {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flows == nil {
		m.flows = map[string]*flow{}
	}
	// The first one keeps it: nobody takes another's.
	if _, taken := m.flows[string(cid)]; !taken {
		m.flows[string(cid)] = f
		m.lengths[len(cid)]++
	}
}

func (m *ids) remove(cid []byte, f *flow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flows[string(cid)] == f {
		delete(m.flows, string(cid))
		m.lengths[len(cid)]--
	}
}

// find gives the flow of a datagram with a short header, which does not tell how
// long the connection id in it is.
func (m *ids) find(b []byte) *flow {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for n := minMover; n <= maxCID && n < len(b); n++ {
		if m.lengths[n] == 0 {
			continue
		}
		if f := m.flows[string(b[1:1+n])]; f != nil {
			return f
		}
	}
	return nil
}

// get gives the flow of a connection id.
func (m *ids) get(cid []byte) *flow {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.flows[string(cid)]
}

// visit notes a guest of this owner, unless there are ones of another. It has to
// be left once.
func (m *ids) visit(p path, owner string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.guests[p]
	if g.flows > 0 && g.owner != owner {
		return false
	}
	if m.guests == nil {
		m.guests = map[path]guests{}
	}
	m.guests[p] = guests{owner, g.flows + 1}
	return true
}

func (m *ids) leave(p path) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.guests[p]
	if g.flows--; g.flows > 0 {
		m.guests[p] = g
	} else {
		delete(m.guests, p)
	}
}

// others tells whether a path has guests of another owner.
func (m *ids) others(p path, owner string) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	g := m.guests[p]
	return g.flows > 0 && g.owner != owner
}
