package routes

import (
	"fmt"
	"strings"

	"aarch64.com/isthmus/proxy/sniff"
)

// CheckHost tells what is wrong with a [Route]'s Host. It accepts canonical host
// names and "*." before one with two labels or more: a wildcard for a whole
// top-level domain belongs to nobody.
func CheckHost(host string) error {
	name, wild := strings.CutPrefix(host, "*.")
	canonical, err := sniff.Host(name)
	switch {
	case err != nil:
		return fmt.Errorf("host %q: %w", host, err)
	case canonical != name:
		return fmt.Errorf("host %q: write it as %q", host, strings.TrimSuffix(host, name)+canonical)
	case wild && !strings.Contains(name, "."):
		return fmt.Errorf("host %q: a wildcard needs a domain of two labels or more", host)
	}
	return nil
}
