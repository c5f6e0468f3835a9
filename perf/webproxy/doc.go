// Package webproxy measures the web proxy beside HAProxy and nginx as proxies that
// route TLS by its server name: new connections, throughput, and memory of idle
// connections.
//
//	client eth0 --IPv4-- client0 proxy vm0 --IPv6-- eth0 vm
//	   |                          |                     |
//	generator               isthmus, HAProxy       TLS server
//	on CPU 0                or nginx, on CPU 1     on CPU 0
//
// The proxy has a CPU to itself; all others share another one and are one program,
// on crypto/tls: a handshake of TLS 1.3 with its post-quantum key share, and one
// byte there and back. With real handshakes the clients are what limits the rate of
// connections, so quote a proxy's CPU time per connection, not the rate. Bulk and
// idle connections begin with the same handshake; what follows is in the clear, so
// that nobody but the proxy has much to do. A proxy that only relays does not see
// the difference.
//
// What favours the others: memory in the kernel is not counted, and they have no
// limits per client. HAProxy has one thread, is told of a connection when the client
// has spoken, as isthmus is (TCP_DEFER_ACCEPT, which nginx's stream lacks), and is measured with all that it can
// splice and with its option splice-auto; nginx has one worker. None of them logs
// connections, nor does isthmus. Memory is what a proxy's processes have
// with all connections open less what they had before the first.
//
// A round starts all proxies and measures them in turns, those that wait being idle:
// where others use the machine, too, a ratio is only worth something between
// neighbours in time. New connections take several turns, there and back; each second
// round goes in the opposite order. Ratios are medians of the rounds' ratios.
package webproxy
