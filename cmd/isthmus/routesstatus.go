package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/store"
)

// storeStatus is what a running isthmus says about the store of routes and its copy
// of it.
type storeStatus struct {
	Node     string         `json:"node"`
	Engine   string         `json:"engine"`
	Where    string         `json:"where"`
	Up       bool           `json:"up"`
	Since    time.Time      `json:"since"` // for how long it is up, or is not
	Problem  string         `json:"problem,omitempty"`
	Doubt    string         `json:"doubt,omitempty"` // why what it says is not believed
	Revision store.Revision `json:"revision"`        // up to which all changes are in force
	Source   string         `json:"source"`          // of what is in force: nowhere, disk, store
	Projects int            `json:"projects"`
	Proxies  map[string]int `json:"proxies"` // by what becomes of them, without zeros
	Hidden   int            `json:"hidden"`  // behind routes of the file
	Nodes    []nodeStatus   `json:"nodes"`
	Lag      lagStatus      `json:"lag"`
	Copy     copyStatus     `json:"copy"`
}

// lagStatus is how long changes took to be in force here, in seconds.
type lagStatus struct {
	Changes uint64  `json:"changes"`
	Last    float64 `json:"last_seconds"`
	P99     float64 `json:"p99_seconds"` // at most, as histograms tell; 0: no change yet
}

// nodeStatus is a host that shares the store.
type nodeStatus struct {
	Name    string         `json:"name"`
	POP     string         `json:"pop,omitempty"`
	Version string         `json:"version"`
	Applied store.Revision `json:"applied"`
	Behind  store.Revision `json:"behind"` // what another has applied
}

// nodesWithin is how long the store may take to say which nodes there are.
const nodesWithin = 2 * time.Second

// nodes lists those that are alive; none while the store is away.
func (n *routesNode) nodes(up bool) []nodeStatus {
	if !up {
		return []nodeStatus{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), nodesWithin)
	defer cancel()
	all, err := n.catalog.Nodes(ctx)
	list := []nodeStatus{}
	if err != nil {
		return list
	}
	newest := store.Revision(0)
	for _, one := range all {
		newest = max(newest, one.Applied)
	}
	for _, one := range all {
		list = append(list, nodeStatus{Name: one.Name, POP: one.POP, Version: one.Version, Applied: one.Applied, Behind: newest - one.Applied})
	}
	return list
}

type copyStatus struct {
	File     string         `json:"file"`
	Revision store.Revision `json:"revision"`
	Written  time.Time      `json:"written,omitzero"`
	Problem  string         `json:"problem,omitempty"`
}

func (n *routesNode) status(c *config.Config) *storeStatus {
	s := n.mirror.Stats()
	out := &storeStatus{
		Node: n.name, Engine: c.Routes.Engine, Where: describeStore(c), Up: s.Up, Since: s.Since, Problem: s.Problem, Doubt: s.Doubt,
		Revision: s.Applied, Source: s.Loaded.String(), Projects: s.Counts.Projects, Proxies: map[string]int{}, Hidden: s.Hidden, Nodes: n.nodes(s.Up),
		Lag:  lagStatus{Last: s.Lag.Last.Seconds()},
		Copy: copyStatus{File: c.RoutesCopy(), Revision: s.Disk.Revision, Written: s.Disk.Written, Problem: s.Disk.Problem},
	}
	if err := n.store.problem(); err != nil && !s.Up {
		out.Problem = err.Error() // the mirror waits for it
	}
	for r, count := range s.Counts.Proxies {
		if count > 0 {
			out.Proxies[mirror.Reason(r).String()] = count
		}
	}
	out.Lag.Changes, out.Lag.P99 = lagP99(&s.Lag)
	return out
}

// lagP99 gives the number of changes, and the bound that 99 of 100 did not exceed.
func lagP99(l *mirror.Lag) (changes uint64, seconds float64) {
	for _, n := range l.Counts {
		changes += n
	}
	below := uint64(0)
	for i, n := range l.Counts {
		if below += n; changes > 0 && below*100 >= changes*99 {
			return changes, mirror.LagBounds[min(i, len(mirror.LagBounds)-1)].Seconds()
		}
	}
	return changes, 0
}

func (s *storeStatus) print(w io.Writer) {
	state := "away"
	if s.Up {
		state = "answers"
	}
	fmt.Fprintf(w, "store\t%s, %s for %s\n", s.Where, state, time.Since(s.Since).Round(time.Second))
	if s.Problem != "" {
		fmt.Fprintf(w, "store problem\t%s; routes of before go on\n", s.Problem)
	}
	if s.Doubt != "" {
		fmt.Fprintf(w, "store doubted\t%s; routes of before go on; if the store is right, run isthmus routes accept\n", s.Doubt)
	}
	fmt.Fprintf(w, "applied\trevision %d, from %s\n", s.Revision, map[string]string{"nowhere": "nowhere yet", "disk": "the copy on the disk", "store": "the store"}[s.Source])
	counts := map[string]uint64{}
	for reason, n := range s.Proxies {
		counts[reason] = uint64(n)
	}
	fmt.Fprintf(w, "proxies\t%s, in %d projects\n", orNone(counted(counts)), s.Projects)
	if s.Hidden > 0 {
		fmt.Fprintf(w, "hidden\t%d routes of the store, behind the same ones of routes_file\n", s.Hidden)
	}
	if s.Lag.Changes > 0 {
		fmt.Fprintf(w, "lag\tlast %s s, 99 %% within %s s, of %d changes\n", strconv.FormatFloat(s.Lag.Last, 'f', 3, 64), strconv.FormatFloat(s.Lag.P99, 'g', 3, 64), s.Lag.Changes)
	}
	var behind []string
	for _, one := range s.Nodes {
		if one.Behind > 0 {
			behind = append(behind, fmt.Sprintf("%s by %d", one.Name, one.Behind))
		}
	}
	fmt.Fprintf(w, "nodes\t%d, this one is %s; behind: %s\n", len(s.Nodes), s.Node, orNone(behind))
	switch {
	case s.Copy.Problem != "":
		fmt.Fprintf(w, "copy\t%s\n", s.Copy.Problem)
	case s.Copy.File != "" && !s.Copy.Written.IsZero():
		fmt.Fprintf(w, "copy\t%s, revision %d of %s ago\n", s.Copy.File, s.Copy.Revision, time.Since(s.Copy.Written).Round(time.Second))
	}
}

// apiStatus is what a running isthmus says about its API.
type apiStatus struct {
	Listen  []string          `json:"listen"`
	Answers map[string]uint64 `json:"answers"` // by status, without zeros
}

func (s *apiService) status(out *status, c *config.Config) {
	out.API = &apiStatus{Listen: apiListens(c), Answers: map[string]uint64{}}
	for code, n := range s.server.Stats().Answers {
		out.API.Answers[strconv.Itoa(code)] = n
	}
}

func (s *apiStatus) print(w io.Writer) {
	fmt.Fprintf(w, "API\ton %s, answers %s\n", orNone(append(s.Listen, "the control socket")), orNone(counted(s.Answers)))
}
