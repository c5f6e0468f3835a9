package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

const (
	// TallyKey has the newest [Tally].
	TallyKey = Serving + "tally"
	// AcceptedKey has the newest [Accepted].
	AcceptedKey = Serving + "accepted"
)

// Tally is what one node counted for all in the store itself, so that each can
// tell whether its copy is right without reading the whole again. A node first
// writes one without a Revision, so that no two count at once.
type Tally struct {
	By       string         `json:"by"`
	At       time.Time      `json:"at"`
	Revision store.Revision `json:"revision,omitempty"` // what has been counted; 0: about to count
	Records  int            `json:"records"`            // below ProjectPrefix and ProxyPrefix
	Sum      uint64         `json:"sum,string"`         // of [Fingerprint] over them, modulo 2^64
	Nodes    int            `json:"nodes"`              // below NodePrefix
}

// Encode is the value of the record.
func (t Tally) Encode() []byte { return encode(t) }

// DecodeTally reads the value of TallyKey.
func DecodeTally(e store.Entry) (t Tally, err error) {
	if err := json.Unmarshal(e.Value, &t); err != nil {
		return t, fmt.Errorf("record %s: %w", e.Key, err)
	}
	return t, nil
}

// Fingerprint is a hash of a key and the revisions of its record (FNV-1a, then the
// finalizer of SplitMix64 for each revision). All nodes have to agree on it.
func Fingerprint(e store.Entry) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(e.Key) {
		h = (h ^ uint64(e.Key[i])) * 0x100000001b3
	}
	for _, r := range [...]store.Revision{e.Created, e.Modified} {
		h ^= uint64(r)
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// Accepted is an operator's word that what the store has is right, even if nodes
// that remember more take it for another store or an emptied one.
type Accepted struct {
	ID string    `json:"id"` // random
	At time.Time `json:"at"`
	By string    `json:"by"`
}

// Accept has all nodes take the store as it is.
func (c *Catalog) Accept(ctx context.Context, a Actor) error {
	_, err := c.change(ctx, func() (store.Txn, error) {
		now := Accepted{ID: randomText(10), At: c.o.Now().UTC(), By: a.By}
		t := store.Txn{Put: []store.Put{{Key: AcceptedKey, Value: encode(now)}}}
		c.audit(&t, a, "", "store.accept", "store", nil, now)
		return t, nil
	})
	return err
}
