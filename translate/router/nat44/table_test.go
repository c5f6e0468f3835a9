package nat44

import (
	"testing"
)

func TestSmoke(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{})
	for i := range 3 {
		if err := tab.Add(vm(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		for _, n := range []string{"tcp4", "udp4"} {
			_, a, err := w.call(n, vm(i))
			_, p, _ := tab.Slice(vm(i))
			t.Log(i, n, a, p, err)
		}
	}
	t.Log(tab.Stats())
	t.Log(tab.Limited())
	out, err := w.hypervisorRun("nft", "--debug=netlink", "list", "ruleset")
	t.Log(string(out), err)
}
