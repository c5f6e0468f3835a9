// Package bench has what the measurements of this repository share: programs that
// are run in a host of the lab, the machine they run on, and figures.
package bench
