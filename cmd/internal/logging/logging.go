// Package logging sets up zerolog: lines for people on a terminal, JSON for
// everything else.
package logging

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Levels are the names that ParseLevel takes, from talkative to silent.
var Levels = []string{"debug", "info", "warn", "error"}

// ParseLevel reads one of Levels.
func ParseLevel(s string) (zerolog.Level, error) {
	if !slices.Contains(Levels, s) {
		return 0, fmt.Errorf("%q is not a level; write %s", s, strings.Join(Levels, ", "))
	}
	return zerolog.ParseLevel(s)
}

// New logs to f.
func New(f *os.File, level zerolog.Level) zerolog.Logger {
	if !IsTerminal(f) {
		return zerolog.New(f).Level(level).With().Timestamp().Logger()
	}
	return zerolog.New(zerolog.ConsoleWriter{
		Out:        f,
		TimeFormat: time.TimeOnly,
		NoColor:    !Colors(f),
	}).Level(level).With().Timestamp().Logger()
}

// IsTerminal tells whether somebody reads f on a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Colors tells whether f shows colours: a terminal, unless its user does not want
// them (https://no-color.org).
func Colors(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && IsTerminal(f)
}
