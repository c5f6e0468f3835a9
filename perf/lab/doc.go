// Package lab makes small networks out of Linux network namespaces: for
// integration tests, for the demo and for measurements. Everything is done
// through netlink, ioctl and mount from Go; no program is called.
//
//	          New("demo")              one Lab = one lock file
//	               |                   /run/isthmus-lab/demo.lab
//	    +----------+-----------+
//	    |                      |
//	Host("vm")            Host("wan")  one Host = one namespace
//	/run/netns/           /run/netns/  `ip netns exec isthmus-demo-vm ...`
//	isthmus-demo-vm       isthmus-demo-wan
//	    |                      |
//	    +-- eth0 ====== eth0 --+       Link: a veth pair, both ends up
//
// # Ownership and cleaning up
//
// A Lab holds a lock (flock) on its file for as long as its process lives. The
// file lists the namespaces, each written down before it is made. The kernel
// releases the lock when the process ends, however it ends, so a file that can
// be locked belongs to nobody: the next New, of any name, removes what it
// lists, with files in /etc/netns ([Host.UseResolver]), and the directory beside
// it ([Lab.Dir]). Labs of living processes are left alone.
//
// Links are made inside the namespaces and never appear in the caller's own.
// They disappear with the namespaces, as do addresses, routes and XDP programs.
// Programs started with [Host.Start] are killed when the lab is closed and when
// our process dies. A program that somebody else put into a namespace (a shell
// by `ip netns exec`) is not killed; its namespace loses the name and stays
// until that program ends.
//
// A link can lose, reorder and duplicate packets on its way, see [Impairer].
//
// # Threads
//
// In Linux a network namespace belongs to a thread. [Host.Do] moves the calling
// goroutine's thread into the namespace for the length of a function; sockets
// opened there stay in that namespace wherever they are used later. Goroutines
// that the function starts do not inherit it. Each Host also keeps one thread
// of its own in the namespace, from which programs are started: the signal that
// ends a child with its parent is tied to the parent's thread. That thread may
// get a mount namespace, too, in which files are covered by others ([Host.Cover]).
//
// Sources: namespaces(7), network_namespaces(7), mount_namespaces(7), veth(4),
// flock(2), prctl(2) PR_SET_PDEATHSIG, packet(7), include/uapi/linux/ethtool.h, ip-netns(8) for the layout of
// /run/netns and /etc/netns.
package lab
