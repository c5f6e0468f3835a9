package page

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestContrast holds each color of text against the grounds it stands on: 4.5:1
// for text, 3:1 for the edges of fields (WCAG 2.2, 1.4.3 and 1.4.11, level AA).
func TestContrast(t *testing.T) {
	css := string(assets["page.css"].text)
	light, dark, ok := strings.Cut(css, "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("no dark colors")
	}
	dark, _, _ = strings.Cut(dark, "\n}\n")
	pairs := []struct {
		text, ground string
		least        float64
	}{
		{"accent-text", "accent", 4.5}, {"text", "accent-soft", 4.5}, {"dim", "accent-soft", 4.5}, {"dim", "sunk", 4.5}, {"text", "sunk", 4.5}, {"accent", "sunk", 4.5},
		{"card", "bad", 4.5}, {"edge", "card", 3}, {"edge", "ground", 3}, {"accent", "card", 4.5}, {"accent", "ground", 4.5},
	}
	for _, ground := range []string{"ground", "card"} {
		for _, text := range []string{"text", "dim", "ok", "wait", "bad", "off"} {
			pairs = append(pairs, struct {
				text, ground string
				least        float64
			}{text, ground, 4.5})
		}
	}
	for _, state := range []string{"ok", "wait", "bad", "off"} {
		pairs = append(pairs, struct {
			text, ground string
			least        float64
		}{state, state + "-soft", 4.5})
	}
	for name, part := range map[string]string{"light": light, "dark": dark} {
		colors := colorsOf(part)
		for _, p := range pairs {
			a, b := luminance(t, colors[p.text]), luminance(t, colors[p.ground])
			if c := (max(a, b) + 0.05) / (min(a, b) + 0.05); c < p.least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, less than %v", name, p.text, p.ground, c, p.least)
			}
		}
		for used := range colorsUsed(css) {
			if used != "shadow" && colors[used] == "" {
				t.Errorf("%s: there is no --%s", name, used)
			}
		}
	}
	if found := regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b`).FindString(css[strings.Index(css, "*, ::before"):]); found != "" {
		t.Errorf("%s stands outside of the pairs", found)
	}
	if strings.Contains(css, "url(") || strings.Contains(css, "@import") {
		t.Error("something comes from elsewhere")
	}
}

var colorPattern = regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`)

func colorsOf(css string) map[string]string {
	all := map[string]string{}
	for _, m := range colorPattern.FindAllStringSubmatch(css, -1) {
		all[m[1]] = m[2]
	}
	return all
}

func colorsUsed(css string) map[string]bool {
	all := map[string]bool{}
	for _, m := range regexp.MustCompile(`var\(--([a-z-]+)\)`).FindAllStringSubmatch(css, -1) {
		all[m[1]] = true
	}
	return all
}

// luminance is the relative one of WCAG 2.2.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) != 7 {
		t.Fatalf("%q is no color", hex)
	}
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		must(t, err)
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func TestLuminance(t *testing.T) {
	for hex, want := range map[string]string{"#000000": "0.0000", "#ffffff": "1.0000", "#777777": "0.1845"} {
		if got := fmt.Sprintf("%.4f", luminance(t, hex)); got != want {
			t.Errorf("%s: %s", hex, got)
		}
	}
}
