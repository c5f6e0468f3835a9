package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/rs/zerolog"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/jump"
)

// auditLog writes one line for each channel of the jump server.
type auditLog struct {
	own zerolog.Logger // isthmus's own log

	mu         sync.Mutex
	where      string // as in the configuration
	file       *os.File
	complained bool
}

func newAuditLog(own zerolog.Logger) *auditLog {
	return &auditLog{own: own, where: config.AuditOff}
}

// openAudit opens the file, if it is one.
func openAudit(where string) (*os.File, error) {
	if where == config.AuditLog || where == config.AuditOff {
		return nil, nil
	}
	// It says who went where: not for everybody.
	f, err := os.OpenFile(where, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w (see audit in [jump])", err)
	}
	return f, nil
}

func (a *auditLog) open(where string) error {
	f, err := openAudit(where)
	if err == nil {
		a.replace(where, f)
	}
	return err
}

// replace goes on in another place, or in the same one opened anew.
func (a *auditLog) replace(where string, f *os.File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		a.file.Close()
	}
	a.where, a.file, a.complained = where, f, false
}

func (a *auditLog) close() { a.replace(config.AuditOff, nil) }

// Write implements io.Writer for a whole line.
func (a *auditLog) Write(line []byte) (int, error) {
	n, err := a.file.Write(line)
	if err != nil && !a.complained {
		a.complained = true
		a.own.Error().Err(err).Msg("audit log; channels are not written down until this is mended and isthmus reloaded")
	}
	return n, nil
}

// record writes one channel. All that is a client's own words is quoted, since
// people read logs on terminals.
func (a *auditLog) record(r jump.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	log := a.own
	switch {
	case a.where == config.AuditOff:
		return
	case a.file != nil:
		log = zerolog.New(a).With().Timestamp().Logger()
	}
	// Without a level: no --log-level silences it.
	e := log.Log().Uint64("session", r.Session).Str("source", r.Source.String()).Str("client", clientWord(r.Version))
	if r.Who != "" {
		e.Str("who", clientWord(r.Who))
	}
	e.Str("target", clientWord(r.Target))
	if r.Dialled.IsValid() {
		e.Str("vm", r.Dialled.String())
	}
	e.Time("start", r.Start).Float64("seconds", r.Took.Seconds()).Float64("dial_seconds", r.Dial.Seconds()).
		Uint64("up_bytes", r.Up).Uint64("down_bytes", r.Down).Str("result", r.End.String()).Msg("jump channel")
}

// longestWord is how much of a client's own words is worth keeping.
const longestWord = 128

// clientWord is what a client says, made harmless: as it is if it is short and
// plain ASCII, else quoted.
func clientWord(s string) string {
	if len(s) > longestWord {
		s = s[:longestWord] + "..."
	}
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}
