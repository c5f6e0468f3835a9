package catalog

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

func TestVisitsKeys(t *testing.T) {
	if p := WantedProject(WantedKey("shop", "dfw0/x/y")); p != "shop" {
		t.Errorf("project %q", p)
	}
}

// A report is as large as it may be, and has the hosts that were visited last.
func TestVisitsEncode(t *testing.T) {
	all := Visits{Node: "dfw0", Since: time.Unix(1_900_000_000, 0).UTC()}
	for i := range 100 {
		all.Hosts = append(all.Hosts, HostVisits{Host: fmt.Sprintf("www%d.shop.example", i), Count: uint64(i), Last: 1_900_000_000 + int64(i)})
	}
	whole := len(all.Encode(store.MaxValue))
	for most := 200; most <= whole+20; most++ {
		b := all.Encode(most)
		v, err := DecodeVisits(store.Entry{Value: b})
		if err != nil || len(b) > most || v.More != (len(v.Hosts) < 100) {
			t.Fatalf("in %d: %d bytes, %d hosts, more %v, %v", most, len(b), len(v.Hosts), v.More, err)
		}
		if v.More && (len(b) < most-100 || most == whole+20) {
			t.Fatalf("in %d of %d: only %d bytes", most, whole, len(b))
		}
		for i, h := range v.Hosts {
			if !reflect.DeepEqual(h, all.Hosts[99-i]) {
				t.Fatalf("in %d: host %d is %+v", most, i, h)
			}
		}
	}
	if _, err := DecodeVisits(store.Entry{Key: "x", Value: []byte("{")}); err == nil {
		t.Error("a broken record is taken")
	}
}
