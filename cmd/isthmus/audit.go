package main

import (
	"strconv"

	"github.com/rs/zerolog"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/jump"
)

// auditLog writes one line for each channel of the jump server.
type auditLog struct{ logFile }

func newAuditLog(own zerolog.Logger) *auditLog {
	return &auditLog{logFile{own: own, what: "audit", key: "audit in [jump]", where: config.AuditOff}}
}

// record writes one channel. All that is a client's own words is quoted, since
// people read logs on terminals.
func (a *auditLog) record(r jump.Record) {
	a.write(func(e *zerolog.Event) {
		e.Uint64("session", r.Session).Str("source", r.Source.String()).Str("client", clientWord(r.Version))
		if r.Who != "" {
			e.Str("who", clientWord(r.Who))
		}
		e.Str("target", clientWord(r.Target))
		if r.Dialled.IsValid() {
			e.Str("vm", r.Dialled.String())
		}
		e.Time("start", r.Start).Float64("seconds", r.Took.Seconds()).Float64("dial_seconds", r.Dial.Seconds()).
			Uint64("up_bytes", r.Up).Uint64("down_bytes", r.Down).Str("result", r.End.String()).Msg("jump channel")
	})
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
