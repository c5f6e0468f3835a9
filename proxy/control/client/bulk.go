package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"aarch64.com/isthmus/proxy/control/wire"
)

// Export writes everything to w, as json, toml or routes. It takes as long as it
// takes: end ctx instead.
func (c *Client) Export(ctx context.Context, w io.Writer, format string, tokens bool) error {
	query := url.Values{"format": {format}, "tokens": {strconv.FormatBool(tokens)}}
	resp, err := c.stream(ctx, http.MethodGet, "/export?"+query.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("%s: the export broke off: %w", c.where, err)
	}
	return nil
}

// ImportOptions say how a file is imported.
type ImportOptions struct {
	Format  string // json, toml or routes
	Replace bool   // remove what the file does not have
	DryRun  bool   // only tell what would change
}

// Import brings a file in. It takes as long as it takes: end ctx instead.
func (c *Client) Import(ctx context.Context, file io.Reader, o ImportOptions) (done wire.Imported, err error) {
	query := url.Values{"format": {o.Format}, "replace": {strconv.FormatBool(o.Replace)}, "dry_run": {strconv.FormatBool(o.DryRun)}}
	kind := "application/toml"
	if o.Format == "json" {
		kind = "application/json"
	}
	resp, err := c.stream(ctx, http.MethodPost, "/import?"+query.Encode(), kind, file)
	if err != nil {
		return done, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&done); err != nil {
		return done, fmt.Errorf("%s: the answer is not understood: %w; is this isthmus's API?", c.where, err)
	}
	return done, nil
}

// stream asks without a bound on time. The caller closes the body.
func (c *Client) stream(ctx context.Context, method, path, kind string, body io.Reader) (*http.Response, error) {
	req, err := c.request(ctx, method, path, nil)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Body, req.ContentLength = io.NopCloser(body), -1
		req.Header.Set("Content-Type", kind)
	}
	patient := *c.http
	patient.Timeout = 0
	resp, err := patient.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		data, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return nil, c.refused(resp, data)
	}
	return resp, nil
}

// Holds lists released names that are kept from others for a while.
func (c *Client) Holds(ctx context.Context) iter.Seq2[wire.Hold, error] {
	return list[wire.Hold](ctx, c, "/holds", "after", nil)
}

// DeleteHold lets all projects have such a name at once.
func (c *Client) DeleteHold(ctx context.Context, host string) error {
	_, err := c.do(ctx, http.MethodDelete, join("holds", host), nil, nil, nil)
	return err
}

// Accept has all nodes take the store as it is, though they remember more.
func (c *Client) Accept(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, "/accept", nil, nil, nil)
	return err
}
