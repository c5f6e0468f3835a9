package xsk

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ZeroCopy is what to ask of the driver.
type ZeroCopy uint8

const (
	ZeroCopyAuto    ZeroCopy = iota // zero-copy if the driver can with chunks of this size, else copy
	ZeroCopyRequire                 // zero-copy or an error
	ZeroCopyOff                     // copy
)

// Mode is what was got.
type Mode uint8

const (
	Copy         Mode = iota // the kernel copies each frame
	ZeroCopyMode             // the device reads and writes the UMEM
)

func (m Mode) String() string {
	if m == ZeroCopyMode {
		return "zero-copy"
	}
	return "copy"
}

// Ring sizes that Open uses for a zero.
const (
	DefaultRx         = 2048
	DefaultTx         = 2048
	DefaultFill       = 4096
	DefaultCompletion = 4096
)

// SocketConfig says which queue to serve and how.
type SocketConfig struct {
	Ifindex int
	Queue   int
	// Entries of the rings, powers of two; 0 is the default. Fill should be at
	// least twice the device's rx ring, Completion at least Tx.
	Rx, Tx, Fill, Completion uint32
	ZeroCopy                 ZeroCopy
}

// Socket is an AF_XDP socket bound to one queue.
type Socket struct {
	u    *UMEM
	slot int
	cfg  SocketConfig
	name string // of the interface when it was opened
	mode Mode

	fill, comp addrRing
	rx, tx     descRing
	quiet      int // kicks in a row that moved nothing and said no reason

	counters counters

	mu  sync.Mutex // guards fd and ctl against Close, for Stats and State
	fd  int
	ctl int // an ordinary socket in the same namespace, for ioctls
}

// How long a bind waits for the kernel to finish tearing down the socket that
// had the queue before; it does so after close has returned: some tens of
// milliseconds on an idle machine, and more than 250 where every CPU is busy.
const (
	rebindWait = 2 * time.Second
	rebindStep = 2 * time.Millisecond
)

// Open makes a socket on u and binds it to a queue, in the network namespace
// of the calling thread. If u has other sockets it shares their memory
// (XDP_SHARED_UMEM) and inherits their copy or zero-copy mode: a device that
// can't have that mode needs a UMEM of its own. Fails with ErrBusy,
// ErrZeroCopy, ErrPermission, ErrUnsupported, ErrQueueGone, ErrDeviceGone.
//
// The fill ring is full when Open returns; frames arrive once the socket is
// registered with a Program.
func Open(u *UMEM, c SocketConfig) (*Socket, error) {
	if u.mem == nil {
		return nil, fmt.Errorf("open socket: umem %w", ErrClosed)
	}
	for _, r := range []struct {
		name   string
		size   *uint32
		preset uint32
	}{{"rx", &c.Rx, DefaultRx}, {"tx", &c.Tx, DefaultTx}, {"fill", &c.Fill, DefaultFill}, {"completion", &c.Completion, DefaultCompletion}} {
		if *r.size == 0 {
			*r.size = r.preset
		}
		if *r.size&(*r.size-1) != 0 {
			return nil, fmt.Errorf("open socket: %s ring of %d entries: must be a power of two", r.name, *r.size)
		}
	}
	s := &Socket{u: u, cfg: c, fd: -1, ctl: -1}
	if err := u.join(s); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		s.shut()
		u.leave(s, true)
		return nil, fmt.Errorf("%s: %w", s.where(), err)
	}
	u.rebound(c.Ifindex, c.Queue)
	s.Service()
	return s, nil
}

func (s *Socket) where() string {
	if s.name == "" {
		return fmt.Sprintf("queue %d of interface %d", s.cfg.Queue, s.cfg.Ifindex)
	}
	return fmt.Sprintf("queue %d of %s", s.cfg.Queue, s.name)
}

func (s *Socket) open() (err error) {
	if s.ctl, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open control socket: %w", err)
	}
	if s.name, err = interfaceName(s.ctl, s.cfg.Ifindex); err != nil {
		return fmt.Errorf("%w: %w", ErrDeviceGone, err)
	}
	if need := zeroCopyChunk(s.ctl, s.name); int(s.u.chunkSize) < need {
		if s.cfg.ZeroCopy == ZeroCopyRequire {
			return fmt.Errorf("%w: this driver needs chunks of %d bytes for it: set frame_size to that", ErrZeroCopy, need)
		}
		s.cfg.ZeroCopy = ZeroCopyOff
	}
	s.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("open AF_XDP socket: %w: give the process CAP_NET_RAW", ErrPermission)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("open AF_XDP socket: %w: this kernel is built without CONFIG_XDP_SOCKETS", ErrUnsupported)
	case err != nil:
		return fmt.Errorf("open AF_XDP socket: %w", err)
	}
	if err := s.makeRings(); err != nil {
		return err
	}
	if err := s.bind(); err != nil {
		return err
	}
	opts, err := unix.GetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_OPTIONS)
	if err != nil {
		return fmt.Errorf("read back the mode: %w", err)
	}
	if opts&unix.XDP_OPTIONS_ZEROCOPY != 0 {
		s.mode = ZeroCopyMode
	}
	if s.mode == Copy && s.cfg.ZeroCopy == ZeroCopyRequire {
		return fmt.Errorf("%w: the UMEM is shared with a socket in copy mode", ErrZeroCopy)
	}
	if s.mode == ZeroCopyMode && s.cfg.ZeroCopy == ZeroCopyOff {
		return errors.New("copy mode can't be had: the UMEM is shared with a zero-copy socket; use a UMEM of its own")
	}
	s.tune()
	return nil
}

func (s *Socket) makeRings() error {
	for _, r := range []struct {
		name string
		opt  int
		size uint32
	}{
		{"fill", unix.XDP_UMEM_FILL_RING, s.cfg.Fill},
		{"completion", unix.XDP_UMEM_COMPLETION_RING, s.cfg.Completion},
		{"rx", unix.XDP_RX_RING, s.cfg.Rx},
		{"tx", unix.XDP_TX_RING, s.cfg.Tx},
	} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, r.opt, int(r.size)); err != nil {
			return fmt.Errorf("make %s ring of %d entries: %w", r.name, r.size, err)
		}
	}
	off, err := ringOffsets(s.fd)
	if err != nil {
		return fmt.Errorf("ask for ring offsets: %w", err)
	}
	if s.fill, err = mapAddrRing(s.fd, unix.XDP_UMEM_PGOFF_FILL_RING, off.Fr, s.cfg.Fill); err != nil {
		return fmt.Errorf("map fill ring: %w", err)
	}
	if s.comp, err = mapAddrRing(s.fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, off.Cr, s.cfg.Completion); err != nil {
		return fmt.Errorf("map completion ring: %w", err)
	}
	if s.rx, err = mapDescRing(s.fd, unix.XDP_PGOFF_RX_RING, off.Rx, s.cfg.Rx); err != nil {
		return fmt.Errorf("map rx ring: %w", err)
	}
	if s.tx, err = mapDescRing(s.fd, unix.XDP_PGOFF_TX_RING, off.Tx, s.cfg.Tx); err != nil {
		return fmt.Errorf("map tx ring: %w", err)
	}
	return nil
}

// bind shares the memory of another live socket of the UMEM, or registers it
// anew when there is none.
func (s *Socket) bind() error {
	for _, o := range s.u.sockets {
		if o == nil || o == s {
			continue
		}
		err := s.bindRetry(unix.XDP_SHARED_UMEM, uint32(o.fd))
		if errors.Is(err, unix.EBADF) { // o's device is gone; its memory isn't
			continue
		}
		return s.explain(err)
	}
	if err := registerUMEM(s.fd, s.u.area, int(s.u.chunkSize)); err != nil {
		if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EPERM) {
			return fmt.Errorf("register UMEM: %w: give the process CAP_IPC_LOCK or raise its locked-memory limit above %d bytes", ErrPermission, len(s.u.area))
		}
		return fmt.Errorf("register UMEM of %d bytes: %w", len(s.u.area), err)
	}
	flags := uint16(unix.XDP_USE_NEED_WAKEUP)
	switch s.cfg.ZeroCopy {
	case ZeroCopyRequire:
		flags |= unix.XDP_ZEROCOPY
	case ZeroCopyOff:
		flags |= unix.XDP_COPY
	}
	return s.explain(s.bindRetry(flags, 0))
}

func (s *Socket) bindRetry(flags uint16, sharedFD uint32) error {
	sa := unix.SockaddrXDP{Flags: flags, Ifindex: uint32(s.cfg.Ifindex), QueueID: uint32(s.cfg.Queue), SharedUmemFD: sharedFD}
	for end := time.Now().Add(rebindWait); ; time.Sleep(rebindStep) {
		err := unix.Bind(s.fd, &sa)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
	}
}

func (s *Socket) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("bind: %w: another AF_XDP socket holds it; stop that program", ErrBusy)
	case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf(`bind: %w by the driver; use zero_copy = "auto" or a UMEM of its own`, ErrZeroCopy)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("bind: %w", ErrDeviceGone)
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Errorf("bind: %w: set the interface up first", ErrLinkDown)
	case errors.Is(err, unix.EINVAL):
		if n, e := queueCount(s.ctl, s.name); e == nil && s.cfg.Queue >= n {
			return fmt.Errorf("bind: %w: the interface has %d", ErrQueueGone, n)
		}
	}
	if s.cfg.ZeroCopy == ZeroCopyRequire {
		// What the driver's own set-up of the queue says; with auto the kernel
		// would fall back to copy mode.
		return fmt.Errorf(`bind: %w by the driver; use zero_copy = "auto": %w`, ErrZeroCopy, err)
	}
	return fmt.Errorf("bind: %w", err)
}

// xdpMaxTxBudget is the most frames one kick may send in copy mode where the
// kernel has XDP_MAX_TX_SKB_BUDGET (6.17; before, always 32). A kick holds up
// a stop of the Go world, so it is kept well below a millisecond.
const xdpMaxTxBudget = 256

// tune sets what makes things faster but that may be missing.
func (s *Socket) tune() {
	if s.mode != Copy {
		return
	}
	unix.SetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, int(min(xdpMaxTxBudget, s.cfg.Tx)))
}

// Mode says whether frames are copied.
func (s *Socket) Mode() Mode { return s.mode }

// FD is the socket's file descriptor, to poll on: POLLIN says that Recv has
// something. A poll stays silent when the link goes down or the device away;
// watch RTM_NEWLINK or ask State.
func (s *Socket) FD() int { return s.fd }

// Queue and Ifindex say where the socket is bound.
func (s *Socket) Queue() int   { return s.cfg.Queue }
func (s *Socket) Ifindex() int { return s.cfg.Ifindex }

// State asks the kernel about the interface: nil, or an error that is
// ErrLinkDown, ErrDeviceGone or ErrQueueGone. Costs two or three system calls.
func (s *Socket) State() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return fmt.Errorf("%s: %w", s.where(), ErrClosed)
	}
	name, err := interfaceName(s.ctl, s.cfg.Ifindex)
	if err != nil {
		return fmt.Errorf("%s: %w", s.where(), ErrDeviceGone)
	}
	flags, err := interfaceFlags(s.ctl, name)
	if err != nil {
		return fmt.Errorf("%s: %w", s.where(), ErrDeviceGone)
	}
	if flags&unix.IFF_UP == 0 || flags&unix.IFF_RUNNING == 0 {
		return fmt.Errorf("%s: %w", s.where(), ErrLinkDown)
	}
	if n, err := queueCount(s.ctl, name); err == nil && s.cfg.Queue >= n {
		return fmt.Errorf("%s: %w: %d left", s.where(), ErrQueueGone, n)
	}
	return nil
}

// Close unbinds the queue, unmaps the rings and takes the chunks that the
// socket had back to the free list. (Those of a zero-copy socket only once the
// queue is bound again or the UMEM closed: until then the device might still
// write to them.) Unregister it from its Program first.
func (s *Socket) Close() error {
	if s.fd < 0 {
		return fmt.Errorf("%s: %w", s.where(), ErrClosed)
	}
	safe := s.mode == Copy || errors.Is(s.State(), ErrDeviceGone)
	err := s.shut()
	s.u.leave(s, safe)
	return err
}

func (s *Socket) shut() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, r := range []*ring{&s.fill.ring, &s.comp.ring, &s.rx.ring, &s.tx.ring} {
		if r.mem != nil {
			errs = append(errs, unix.Munmap(r.mem))
		}
	}
	s.fill, s.comp, s.rx, s.tx = addrRing{}, addrRing{}, descRing{}, descRing{}
	for _, fd := range []*int{&s.fd, &s.ctl} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	return errors.Join(errs...)
}
