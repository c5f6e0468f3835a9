package bench

import (
	"fmt"
	"slices"
)

// Median of values; 0 if there are none.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// MedianRatio is the median over the rounds of one column divided by another, and
// false where there is none. Rounds in which the other has nothing don't count.
func MedianRatio(v, base []float64) (float64, bool) {
	var q []float64
	for i := range min(len(v), len(base)) {
		if base[i] > 0 {
			q = append(q, v[i]/base[i])
		}
	}
	return Median(q), len(q) > 0
}

// Spread is min/median/max, or the only value, or "-".
func Spread(v []float64, digits int) string {
	switch len(v) {
	case 0:
		return "-"
	case 1:
		return fmt.Sprintf("%.*f", digits, v[0])
	}
	return fmt.Sprintf("%.*f/%.*f/%.*f", digits, slices.Min(v), digits, Median(v), digits, slices.Max(v))
}

// Aim is a ratio that is meant to be reached, and what came of it.
type Aim struct {
	What   string  `json:"what"`
	Want   float64 `json:"want"`
	AtMost bool    `json:"at_most,omitempty"` // Want is the most it may be, not the least
	// Got is the worst of the figures that the aim covers, which Where names.
	Got   float64 `json:"got"`
	Where string  `json:"where,omitempty"`
	Met   bool    `json:"met"`
}

// Consider takes one more figure into account.
func (a *Aim) Consider(got float64, where string) {
	better := got >= a.Got
	if a.AtMost {
		better = got <= a.Got
	}
	if a.Where == "" || !better {
		a.Got, a.Where = got, where
	}
	a.Met = a.Got >= a.Want
	if a.AtMost {
		a.Met = a.Got <= a.Want
	}
}

// String is the line that people read.
func (a Aim) String() string {
	bound, verdict := "at least", "missed "
	if a.AtMost {
		bound = "at most"
	}
	switch {
	case a.Where == "":
		return fmt.Sprintf("unknown  %s: %s %.2f; not measured", a.What, bound, a.Want)
	case a.Met:
		verdict = "met    "
	}
	return fmt.Sprintf("%s  %s: %s %.2f; %.2f (%s)", verdict, a.What, bound, a.Want, a.Got, a.Where)
}
