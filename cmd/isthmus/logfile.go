package main

import (
	"fmt"
	"os"
	"sync"

	"github.com/rs/zerolog"

	"aarch64.com/isthmus/cmd/internal/config"
)

// logFile is where lines about clients go: isthmus's own log, a file, or nowhere.
type logFile struct {
	own  zerolog.Logger // isthmus's own log
	what string         // is written, for errors
	key  string         // of the configuration, likewise

	mu         sync.Mutex
	where      string // as in the configuration
	file       *os.File
	complained bool
}

// try opens the file, if it is one.
func (l *logFile) try(where string) (*os.File, error) {
	if where == config.AuditLog || where == config.AuditOff {
		return nil, nil
	}
	// It says who went where: not for everybody.
	f, err := os.OpenFile(where, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s log: %w (see %s)", l.what, err, l.key)
	}
	return f, nil
}

// check is nil if open would not fail.
func (l *logFile) check(where string) error {
	f, err := l.try(where)
	if f != nil {
		f.Close()
	}
	return err
}

func (l *logFile) open(where string) error {
	f, err := l.try(where)
	if err == nil {
		l.replace(where, f)
	}
	return err
}

// replace goes on in another place, or in the same one opened anew.
func (l *logFile) replace(where string, f *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
	}
	l.where, l.file, l.complained = where, f, false
}

func (l *logFile) close() { l.replace(config.AuditOff, nil) }

// Write implements io.Writer for a whole line, within write.
func (l *logFile) Write(line []byte) (int, error) {
	n, err := l.file.Write(line)
	if err != nil && !l.complained {
		l.complained = true
		l.own.Error().Err(err).Msgf("%s log; nothing is written down there until this is mended and isthmus reloaded", l.what)
	}
	return n, nil
}

// write has f make a line, unless lines go nowhere. It has no level: no
// --log-level silences it.
func (l *logFile) write(f func(*zerolog.Event)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	log := l.own
	switch {
	case l.where == config.AuditOff:
		return
	case l.file != nil:
		log = zerolog.New(l).With().Timestamp().Logger()
	}
	f(log.Log())
}
