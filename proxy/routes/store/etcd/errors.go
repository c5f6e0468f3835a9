package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"aarch64.com/isthmus/proxy/routes/store"
)

var errClosed = fmt.Errorf("%w: it has been closed", store.ErrUnavailable)

// deadlineSlack is by how much clocks, ours and a member's, may differ.
const deadlineSlack = 100 * time.Millisecond

// errAgain makes read make its request again.
var errAgain = rpctypes.ErrGRPCNoLeader

// explain turns an error of the client's into one of package store's. ctx is the
// caller's.
func (s *Store) explain(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.ctx.Err() != nil {
		return errClosed
	}
	// A member is told the deadline, and may be the first to see it.
	if until, ok := ctx.Deadline(); ok && codeOf(err) == codes.DeadlineExceeded && time.Until(until) < deadlineSlack {
		return context.DeadlineExceeded
	}
	err = rpctypes.Error(err)
	say := func(as error, remedy string) error {
		return fmt.Errorf("%w: %s, etcd at %s: %w; %s", as, what, s.where, err, remedy)
	}
	switch {
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
		return fmt.Errorf("%w: %s, etcd at %s: %w", store.ErrCompacted, what, s.where, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return say(store.ErrFull, "compact, defragment and disarm the alarm (etcdctl), or raise --quota-backend-bytes")
	case errors.Is(err, rpctypes.ErrCorrupt):
		return say(store.ErrUnavailable, "a member's data differ from the others'; see etcd's guide on data corruption")
	case errors.Is(err, rpctypes.ErrAuthFailed), errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrUserNotFound),
		errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrInvalidAuthToken), errors.Is(err, rpctypes.ErrAuthOldRevision):
		return say(store.ErrUnavailable, fmt.Sprintf("check user and password, and that the user may read and write keys that begin with %q", s.prefix))
	}
	switch codeOf(err) {
	case codes.DeadlineExceeded:
		err = s.trouble.explain(err)
		fallthrough
	case codes.Unavailable, codes.Canceled, codes.Internal, codes.ResourceExhausted, codes.Unknown:
		return say(store.ErrUnavailable, "are its members up, and reachable from here?")
	}
	return fmt.Errorf("%s, etcd at %s: %w", what, s.where, err)
}

func codeOf(err error) codes.Code {
	var known rpctypes.EtcdError
	switch {
	case errors.As(err, &known):
		return known.Code()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return codes.DeadlineExceeded
	case status.Code(err) == codes.Unknown && strings.Contains(err.Error(), context.DeadlineExceeded.Error()):
		return codes.DeadlineExceeded // as a member passes it on
	}
	return status.Code(err)
}

// refused tells whether a member has said that it did nothing about a request.
func refused(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrNoLeader) || errors.Is(err, rpctypes.ErrTooManyRequests) ||
		errors.Is(err, rpctypes.ErrInvalidAuthToken)
}

// cancelled turns the reason that a server gives for ending a watch into an error.
func cancelled(reason string) error {
	for _, known := range []error{
		rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCInvalidAuthToken,
		rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCUserEmpty, rpctypes.ErrGRPCCompacted,
	} {
		if strings.Contains(reason, rpctypes.ErrorDesc(known)) {
			return known
		}
	}
	return status.Error(codes.Unavailable, "the watch was ended: "+reason)
}
