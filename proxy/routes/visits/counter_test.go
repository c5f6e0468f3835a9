package visits

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestCounter(t *testing.T) {
	c := NewCounter()
	start := time.Unix(1_900_000_000, 0)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 1000 {
				c.Add("www.shop.example", j%10 == 0, start.Add(time.Duration(i*1000+j)))
			}
		})
	}
	all.Wait()
	v := c.of("www.shop.example")
	if want := (Figures{c.since, 8000, 800, start.Add(7999)}); v != want {
		t.Errorf("%+v, want %+v", v, want)
	}
	if v := c.of("none.example"); v.Count != 0 || !v.Last.IsZero() {
		t.Errorf("%+v", v)
	}
	if n := testing.AllocsPerRun(100, func() { c.Add("www.shop.example", false, start) }); n > 0 {
		t.Errorf("%v allocations for a visit", n)
	}
	c.most = 1000
	for i := range c.most + 10 {
		c.Add(fmt.Sprint(i), false, start)
	}
	if n := c.n.Load(); n != c.most {
		t.Errorf("%d hosts", n)
	}
	c.Keep(func(host string) bool { return host == "www.shop.example" })
	if v := c.of("www.shop.example"); v.Count == 0 || c.n.Load() != 1 {
		t.Errorf("%+v, %d hosts", v, c.n.Load())
	}
}
