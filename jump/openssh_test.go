package jump

import "testing"

// via are the addresses that clients come to.
var via = []string{"jump@" + jump4, "jump@[" + jump6 + "]"}

func (w *world) ssh(args ...string) result {
	w.t.Helper()
	return w.run("ssh", append([]string{"-F", w.file("ssh_config")}, args...)...)
}

func TestOpenSSH(t *testing.T) {
	w := newWorld(t, nil)
	w.sshd()
	for _, v := range via {
		w.ok(w.ssh("-J", v, "root@"+vmAddr, "echo hello"), "hello\n")
		w.ended(Finished)
	}
}
