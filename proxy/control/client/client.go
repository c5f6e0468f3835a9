package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"aarch64.com/isthmus/proxy/control/wire"
)

// Client asks one API. Its methods may be called from many goroutines.
type Client struct {
	base  string
	where string // for errors
	unix  bool
	token string
	http  *http.Client
	seen  atomic.Int64 // the newest revision that an answer was of
}

// Answer is what comes along with a thing.
type Answer struct {
	ETag     string // for [If]
	Revision int64  // that the answer is of, or that the change has
	Created  bool
}

// If makes a change depend on what is there. Its zero value takes anything.
type If struct {
	Absent bool   // there is none
	ETag   string // it is as it was when it had this
}

func (i *If) header(h http.Header) {
	if i.Absent {
		h.Set("If-None-Match", "*")
	}
	if i.ETag != "" {
		h.Set("If-Match", i.ETag)
	}
}

// maxAnswer bounds what is read, in bytes.
const maxAnswer = 64 << 20

// do asks, and decodes the answer. The path is below /api/v1; its parts are escaped.
func (c *Client) do(ctx context.Context, method, path string, cond *If, body, into any) (a Answer, err error) {
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return a, err
	}
	if cond != nil {
		cond.header(req.Header)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return a, c.unreachable(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, fmt.Errorf("%s: the answer broke off: %w", c.where, err)
	}
	if resp.StatusCode >= 300 {
		return a, c.refused(resp, data)
	}
	if into != nil {
		if err := json.Unmarshal(data, into); err != nil {
			return a, fmt.Errorf("%s: the answer is not understood: %w; is this isthmus's API?", c.where, err)
		}
	}
	a.ETag, a.Created = resp.Header.Get("ETag"), resp.StatusCode == http.StatusCreated
	a.Revision, _ = strconv.ParseInt(resp.Header.Get(revisionHeader), 10, 64)
	c.saw(a.Revision)
	return a, nil
}

func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/api/v1"+path, sent)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if seen := c.seen.Load(); seen > 0 {
		req.Header.Set(revisionHeader, strconv.FormatInt(seen, 10))
	}
	return req, nil
}

// revisionHeader has the revision of an answer, and which one it has to be of.
const revisionHeader = "Isthmus-Revision"

func (c *Client) saw(r int64) {
	for {
		old := c.seen.Load()
		if r <= old || c.seen.CompareAndSwap(old, r) {
			return
		}
	}
}

func (c *Client) refused(resp *http.Response, data []byte) error {
	p := &wire.Problem{}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), wire.ProblemType) || json.Unmarshal(data, p) != nil {
		return fmt.Errorf("%s answers %s; is this isthmus's API?", c.where, resp.Status)
	}
	p.Status = resp.StatusCode
	return p
}

func (c *Client) unreachable(err error) error {
	switch {
	case !c.unix:
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no isthmus runs behind %s; start one, or say where it is", c.where)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s is not for this user; run as root or as the user that isthmus runs as", c.where)
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err // the rest is in where
	}
	return fmt.Errorf("ask %s: %w", c.where, err)
}

// Close ends connections that are kept for further requests.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status is the HTTP status of what the server refused, or 0.
func Status(err error) int {
	if p := (*wire.Problem)(nil); errors.As(err, &p) {
		return p.Status
	}
	return 0
}
