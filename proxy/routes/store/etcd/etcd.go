package etcd

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Defaults of the zero values in Config.
const (
	DefaultPrefix  = "/isthmus/"
	DefaultTimeout = 5 * time.Second
	DefaultTTL     = 10 * time.Second
)

const (
	// dialTimeout is of one connection.
	dialTimeout = 3 * time.Second
	// What a peer does not acknowledge for this long ends the connection.
	ackTimeout = 3 * time.Second
	// pingEvery is the lowest that gRPC allows.
	pingEvery = 10 * time.Second
)

// Config says where etcd is, and who we are there. Zero values are usable but for
// Endpoints.
type Config struct {
	Endpoints []string // members: URLs, or host and port with http, or with https if there is a CA or Cert
	Prefix    string   // of all keys, so that several may share an etcd; "": DefaultPrefix

	CA        string // path of the PEM file with the authorities that signed the members' certificates; "": the system's
	Cert, Key string // paths of PEM files, which are read again for each connection; "": no client certificate

	User, Password string

	Timeout time.Duration // of a request; 0: DefaultTimeout
	TTL     time.Duration // whole seconds, after which announced keys of a dead process go; 0: DefaultTTL

	// Dial connects; nil: as usual.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Store is the engine.
type Store struct {
	config clientv3.Config
	prefix string
	where  string // for errors

	timeout time.Duration
	lease   *lease
	trouble trouble

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	once   sync.Once
	mu     sync.Mutex
	client *clientv3.Client // nil: not connected yet
	failed time.Time        // when that was tried last
	why    error            // and what came of it
}

var _ store.Store = (*Store)(nil)

// Open prepares a store; an error is one of the configuration. It does not
// connect: as long as etcd is away, everything fails with store.ErrUnavailable.
func Open(c Config) (*Store, error) {
	endpoints, secure, err := c.endpoints()
	if err != nil {
		return nil, err
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if len(c.Prefix) > maxPrefix {
		return nil, fmt.Errorf("the prefix of etcd's keys has %d bytes, and %d are the most", len(c.Prefix), maxPrefix)
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.TTL < time.Second {
		return nil, fmt.Errorf("announced keys that live for %v: a second is the least", c.TTL)
	}
	if (c.User == "") != (c.Password == "") {
		return nil, fmt.Errorf("etcd wants user and password, or none of both")
	}
	s := &Store{prefix: c.Prefix, where: strings.Join(endpoints, ", "), timeout: c.Timeout}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.config = clientv3.Config{
		Context: s.ctx, Endpoints: endpoints, Username: c.User, Password: c.Password,
		DialTimeout: dialTimeout, DialKeepAliveTime: pingEvery, DialKeepAliveTimeout: ackTimeout,
		Logger: zap.NewNop(), // errors say it
	}
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	s.config.DialOptions = []grpc.DialOption{
		// A dialer of ours also keeps gRPC from using HTTPS_PROXY.
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c, err := dial(ctx, "tcp", address)
			s.trouble.note(err)
			return c, err
		}),
		// gRPC's own go up to two minutes, and routes should not wait for that long.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: dialTimeout,
		}),
	}
	if secure {
		if s.config.TLS, err = c.tls(); err != nil {
			s.cancel()
			return nil, err
		}
		s.config.DialOptions = append(s.config.DialOptions,
			grpc.WithTransportCredentials(noting{credentials.NewTLS(s.config.TLS), &s.trouble}))
	}
	s.lease = newLease(s, c.TTL)
	return s, nil
}

// connected returns the client, which a first caller makes: with a password,
// that takes a request.
func (s *Store) connected(ctx context.Context) (*clientv3.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	if s.client != nil {
		return s.client, nil
	}
	// Those that have waited for their turn meanwhile need not all try.
	if time.Since(s.failed) < time.Second {
		return nil, s.why
	}
	client, err := clientv3.New(s.config)
	if err != nil {
		s.why, s.failed = s.explain(context.Background(), "connect", err), time.Now()
		return nil, s.why
	}
	s.client = client
	return client, nil
}

// ready tells whether a call makes sense.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.ctx.Err() != nil {
		return errClosed
	}
	return nil
}

// within limits a request in time, to that of the store, too. It asks that the
// member knows a leader.
func (s *Store) within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(s.ctx, cancel)
	return clientv3.WithRequireLeader(ctx), func() { stop(); cancel() }
}

// Close gives the lease back and ends everything.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.lease.close()
		s.cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.client != nil {
			_ = s.client.Close() // says that its context has ended
		}
	})
	return nil
}
