package jump

import (
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// helpTime is how long a client may take to say what it wants a session for.
const helpTime = 10 * time.Second

// freeEnv is how many variables a client may send with a session: most send
// some, unasked, for the language.
const freeEnv = 32

func portText(port uint32) string { return strconv.FormatUint(uint64(port), 10) }

// help answers a session: whatever is to run in it, the client is told how to
// jump, and gets exit status 1. What it types goes nowhere.
func (c *conn) help(nc ssh.NewChannel) {
	channel, requests, err := nc.Accept()
	if err != nil {
		return
	}
	for _, from := range []io.Reader{channel, channel.Stderr()} {
		in := c.wire.backlog.add(func() { c.end(Stalled) })
		defer c.wire.backlog.remove(in)
		go in.discard(from)
	}
	// A client that does not go when it has been told loses its connection:
	// the SSH library keeps the channel until then.
	timeout := time.AfterFunc(helpTime, func() { c.end(Stalled) })
	defer timeout.Stop()
	terminal, done, env := false, false, 0
	for r := range requests {
		switch {
		case r.Type == "env" && env < freeEnv:
			env++
			_ = r.Reply(false, nil)
		case r.Type == "pty-req" && !done:
			terminal = true
			_ = r.Reply(true, nil)
		case (r.Type == "shell" || r.Type == "exec" || r.Type == "subsystem") && !done:
			done = true
			_ = r.Reply(true, nil)
			c.explain(channel, r, terminal)
			channel.Close()
		default: // agent and X11 forwarding, signals, changes of the terminal
			_ = r.Reply(false, nil)
			c.refused(RefusedRequest)
		}
	}
}

// explain writes the text where no program takes it for data, and ends the
// session.
func (c *conn) explain(channel ssh.Channel, r *ssh.Request, terminal bool) {
	s := c.server
	var asked string
	if name, _, ok := cutString(r.Payload); ok {
		asked = string(name)
	}
	var example netip.Prefix
	if len(s.config().VMPrefixes) > 0 {
		example = s.config().VMPrefixes[0]
	}
	text := help(s.config().User, s.host(c.wire), asked, r.Type == "subsystem" && asked == "sftp", example)
	if terminal {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	_, _ = channel.Stderr().Write([]byte(text))
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{1}))
	c.refused(Help)
}
