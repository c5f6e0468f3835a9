package labetcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Client makes a client of the members, or of all, that dials from the host in
// the middle. The caller closes it.
func (c *Cluster) Client(members ...*Member) (*clientv3.Client, error) {
	if len(members) == 0 {
		members = c.Members
	}
	config := clientv3.Config{
		DialTimeout: askTimeout, Logger: zap.NewNop(), Username: c.User, Password: c.Password,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return c.Net.Dial(ctx, "tcp", address)
		})},
	}
	for _, m := range members {
		config.Endpoints = append(config.Endpoints, m.Endpoint())
	}
	if c.config.TLS {
		var err error
		if config.TLS, err = c.Files.config(); err != nil {
			return nil, err
		}
		config.TLS.MinVersion = tls.VersionTLS12
	}
	return clientv3.New(config)
}

// Revision is the newest one.
func (c *Cluster) Revision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := c.admin.Get(ctx, "revision")
	if err != nil {
		return 0, err
	}
	return r.Header.Revision, nil
}

// Compact forgets all history before the newest revision.
func (c *Cluster) Compact(ctx context.Context) error {
	revision, err := c.Revision(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := c.admin.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("compact at %d: %w", revision, err)
	}
	return nil
}

// fillPrefix is of the keys that Fill writes; nobody else's begin so.
const fillPrefix = "\x00fill/"

// Fill writes until the quota is used up and etcd takes no more from anybody. Use
// it with a small Config.Quota.
func (c *Cluster) Fill(ctx context.Context) error {
	value := string(make([]byte, 1<<20))
	for n := range math.MaxInt {
		one, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := c.admin.Put(one, fillPrefix+strconv.Itoa(n), value)
		cancel()
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fill etcd: %w", err)
		}
	}
	return nil
}

// MakeRoom does what an operator does about a full etcd: it deletes what Fill has
// written, compacts, defragments each member and takes the alarm back.
func (c *Cluster) MakeRoom(ctx context.Context) error {
	one, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := c.admin.Delete(one, fillPrefix, clientv3.WithPrefix()); err != nil {
		return err
	}
	if err := c.Compact(ctx); err != nil {
		return err
	}
	for {
		if err := c.defragment(ctx); err != nil {
			return err
		}
		one, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := c.admin.AlarmDisarm(one, &clientv3.AlarmMember{})
		if err == nil {
			_, err = c.admin.Put(one, fillPrefix, "")
		}
		cancel()
		if !errors.Is(err, rpctypes.ErrNoSpace) {
			return err
		}
		// A member that had not applied the deletion yet has kept its size, and
		// raises the alarm again.
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// defragment gives the space of what was deleted back, on each member.
func (c *Cluster) defragment(ctx context.Context) error {
	for _, m := range c.Members {
		one, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := c.admin.Defragment(one, m.Endpoint())
		cancel()
		if err != nil {
			return fmt.Errorf("defragment %s: %w", m.Name(), err)
		}
	}
	return nil
}

// enableAuth makes the user root and lets nobody in without a password.
func (c *Cluster) enableAuth(ctx context.Context) error {
	c.User, c.Password = "root", "not a secret: "+c.lab.ID()
	if _, err := c.admin.UserAdd(ctx, c.User, c.Password); err != nil {
		return err
	}
	if _, err := c.admin.UserGrantRole(ctx, c.User, "root"); err != nil {
		return err
	}
	if _, err := c.admin.AuthEnable(ctx); err != nil {
		return err
	}
	old := c.admin
	defer old.Close()
	var err error
	c.admin, err = c.Client()
	return err
}
