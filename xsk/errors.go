package xsk

import "errors"

// Errors that callers react to; test for them with errors.Is. The error that
// carries one says which interface and queue, and what to do.
var (
	// ErrLinkDown: the interface is down or has no carrier. It comes back;
	// frames in the tx ring wait for that.
	ErrLinkDown = errors.New("link is down")
	// ErrDeviceGone: the interface was deleted or moved to another namespace.
	// The socket will never work again: close it.
	ErrDeviceGone = errors.New("device is gone")
	// ErrQueueGone: the interface has fewer queues than it had. Close the socket.
	ErrQueueGone = errors.New("queue is gone")
	// ErrBusy: another socket is bound to this queue.
	ErrBusy = errors.New("queue is in use")
	// ErrZeroCopy: zero-copy was required and can't be had.
	ErrZeroCopy = errors.New("zero-copy refused")
	// ErrPermission: a capability is missing; the error says which.
	ErrPermission = errors.New("permission missing")
	// ErrUnsupported: the kernel lacks a feature; the error says which.
	ErrUnsupported = errors.New("kernel feature missing")
	// ErrProgramPresent: an XDP program that isn't ours is attached.
	ErrProgramPresent = errors.New("another XDP program is attached")
	// ErrClosed: the socket, UMEM or program was closed before.
	ErrClosed = errors.New("already closed")
)
