package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Visits is what one process has counted for the hosts of a project.
type Visits struct {
	Node  string       `json:"node"`
	Since time.Time    `json:"since"`
	Hosts []HostVisits `json:"hosts,omitempty"` // that were visited
	More  bool         `json:"more,omitempty"`  // hosts are left out
}

// HostVisits are those of one host. There may be many, so names are short.
type HostVisits struct {
	Host   string `json:"host"`
	Count  uint64 `json:"n"`
	Errors uint64 `json:"err,omitempty"`
	Last   int64  `json:"last"` // seconds since 1970
}

// WantedKey is announced by a process that shows the visits of a project.
func WantedKey(project, process string) string { return WantedPrefix + project + "/" + process }

// WantedProject is the project of a key below [WantedPrefix].
func WantedProject(key string) string {
	project, _, _ := strings.Cut(strings.TrimPrefix(key, WantedPrefix), "/")
	return project
}

// VisitsPrefix is that of the [Visits] of a project, one for each process.
func VisitsPrefix(project string) string { return CountedPrefix + project + "/" }

// Encode is the value of the record, in at most so many bytes: hosts that were visited
// longest ago are left out if need be.
func (v Visits) Encode(most int) []byte {
	hosts := slices.Clone(v.Hosts)
	slices.SortFunc(hosts, func(a, b HostVisits) int {
		return cmp.Or(cmp.Compare(b.Last, a.Last), strings.Compare(a.Host, b.Host))
	})
	v.Hosts = nil
	full := v
	full.More = true
	size := len(encode(full)) + len(`"hosts":[],`)
	for i, h := range hosts {
		if size += len(encode(h)) + 1; size > most {
			hosts, v.More = hosts[:i], true
			break
		}
	}
	v.Hosts = hosts
	return encode(v)
}

// DecodeVisits reads the value of a key below [VisitsPrefix].
func DecodeVisits(e store.Entry) (v Visits, err error) {
	if err := json.Unmarshal(e.Value, &v); err != nil {
		return v, fmt.Errorf("record %s: %w", e.Key, err)
	}
	return v, nil
}
