package jump

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// helpTime is how long a client may take to say what it wants a session for.
const helpTime = 10 * time.Second

func portText(port uint32) string { return strconv.FormatUint(uint64(port), 10) }

// help answers a session: whatever is to run in it, the client is told how to
// jump, and gets exit status 1.
func (c *conn) help(nc ssh.NewChannel) {
	channel, requests, err := nc.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	go func() { // what the client types goes nowhere
		var b [keystrokes]byte
		for {
			n, err := channel.Read(b[:])
			c.wire.take(n)
			if err != nil {
				return
			}
		}
	}()
	timeout := time.NewTimer(helpTime)
	defer timeout.Stop()
	terminal := false
	for {
		select {
		case <-timeout.C:
			return
		case r, ok := <-requests:
			if !ok {
				return
			}
			switch r.Type {
			case "pty-req":
				terminal = true
				_ = r.Reply(true, nil)
			case "shell", "exec", "subsystem":
				_ = r.Reply(true, nil)
				c.explain(channel, r, terminal)
				return
			case "env": // most clients send some, and none waits for an answer
				_ = r.Reply(false, nil)
			default: // agent and X11 forwarding, signals
				_ = r.Reply(false, nil)
				c.refused(RefusedRequest)
			}
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
	s.channels[Help].Add(1)
}
