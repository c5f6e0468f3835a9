package etcd

import "testing"

func TestProgressInOrder(t *testing.T) {
	for version, want := range map[string]bool{
		"3.4.23": false, "3.4.37": false, "3.5.0": false, "3.5.7": false, "3.5.8": true, "3.5.21": true,
		"3.6.0": true, "3.6.0-rc.1": true, "3.7.3": true, "3.10.0": true, "4.0.0": true,
		"": false, "3.6": true, "x": false, "3": false, "3.x.1": false, "3.6.1.2": false,
	} {
		if got := progressInOrder(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}
