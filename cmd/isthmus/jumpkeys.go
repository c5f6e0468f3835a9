package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/jump/hostkey"
)

// keyInfo is a host key as people and programs want to see it.
type keyInfo struct {
	State       string `json:"state"` // current or next
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
	SSHFP       string `json:"sshfp"`
	KnownHosts  string `json:"known_hosts"`
	PublicKey   string `json:"public_key"`
}

// certificateInfo is a host certificate as people and programs want to see it.
type certificateInfo struct {
	Key           string    `json:"key"` // fingerprint
	Names         []string  `json:"names"`
	Expires       time.Time `json:"expires,omitzero"`
	CA            string    `json:"ca"` // fingerprint
	CertAuthority string    `json:"known_hosts"`
}

type keysInfo struct {
	Name         string            `json:"name"`
	Keys         []keyInfo         `json:"keys"`
	Certificates []certificateInfo `json:"certificates,omitempty"`
}

func newJumpKeysCommand() *cobra.Command {
	var file, name string
	var asJSON bool
	c := &cobra.Command{
		Use:   "keys [-c FILE]",
		Short: "Show the jump server's host keys: fingerprints, DNS records, lines for known_hosts",
		Long: `Shows the host keys that the configuration names: their fingerprints, their SSHFP
records for DNS (RFC 4255), and their lines for known_hosts.

To change the key without anybody being asked anything:

  1. isthmus jump keys next      make the next key
  2. systemctl reload isthmus    announce it: OpenSSH clients note it down
  3. publish its SSHFP record; wait until everybody has been here once
  4. isthmus jump keys switch    put it in the place of the old one
  5. systemctl reload isthmus    new connections get the new key

A certificate makes that needless for clients that trust its authority. Sign
ssh_host_ed25519_key.pub with

  ssh-keygen -s CA -h -I dfw0 -n dfw0.infra.example.com -V +52w ssh_host_ed25519_key.pub

name the result in host_certificates, and give clients the @cert-authority line
that this command then shows.`,
		Args: knownCommand,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := loadConfig(file)
			if err != nil {
				return err
			}
			info, err := describeKeys(conf, name)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), info)
			}
			return info.print(c.OutOrStdout())
		},
	}
	addPersistentConfigFlag(c, &file)
	c.Flags().StringVar(&name, "name", "", "name that clients use for this server (default: host of [jump])")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	next := &cobra.Command{
		Use:   "next [-c FILE]",
		Short: "Make the next host key, to be announced before it is used",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := rotatingKey(file)
			if err != nil {
				return err
			}
			k, err := hostkey.Make(path + hostkey.NextSuffix)
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("there is a next key already: %s; go on with `isthmus jump keys switch`, or remove it", path+hostkey.NextSuffix)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "made %s\n%s\nreload isthmus, and clients learn it\n", path+hostkey.NextSuffix, ssh.FingerprintSHA256(k.PublicKey()))
			return err
		},
	}
	change := &cobra.Command{
		Use:   "switch [-c FILE]",
		Short: "Put the next host key in the place of the one in use",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := rotatingKey(file)
			if err != nil {
				return err
			}
			if err := hostkey.Switch(path); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is the next key now, and %s the one before; reload isthmus\n", path, path+hostkey.OldSuffix)
			return err
		},
	}
	c.AddCommand(next, change)
	return c
}

// rotatingKey is the file of the key that `next` and `switch` are about.
func rotatingKey(file string) (string, error) {
	c, err := loadConfig(file)
	if err != nil {
		return "", err
	}
	switch paths := c.JumpHostKeys(); {
	case len(c.Jump.NextHostKeys) > 0:
		return "", errors.New("next_host_keys in [jump] names the next keys; make them with `ssh-keygen -t ed25519`, and change the two lists by hand")
	case len(paths) != 1:
		return "", fmt.Errorf("[jump] has %d host keys; these commands are for one", len(paths))
	default:
		return paths[0], nil
	}
}

// describeKeys reads the keys, and makes none.
func describeKeys(c *config.Config, name string) (*keysInfo, error) {
	keys, err := loadHostKeys(c, false)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w; the first start of the jump server makes it", err)
	}
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = c.JumpHost()
	}
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	port := "22"
	if len(c.Jump.Listen) > 0 {
		if _, port, err = net.SplitHostPort(c.Jump.Listen[0]); err != nil {
			return nil, err
		}
	}
	info := &keysInfo{Name: name}
	for _, list := range []struct {
		state string
		keys  []ssh.Signer
	}{{"current", keys.now}, {"next", keys.next}} {
		for _, k := range list.keys {
			p := k.PublicKey()
			info.Keys = append(info.Keys, keyInfo{
				State: list.state, Type: p.Type(), Fingerprint: ssh.FingerprintSHA256(p),
				SSHFP: hostkey.SSHFP(name, p), KnownHosts: hostkey.KnownHosts(name, port, p),
				PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p))),
			})
		}
	}
	for _, cert := range keys.certificates {
		info.Certificates = append(info.Certificates, certificateInfo{
			Key: ssh.FingerprintSHA256(cert.Signer.PublicKey().(*ssh.Certificate).Key), Names: cert.Names, Expires: cert.Expires,
			CA: ssh.FingerprintSHA256(cert.CA), CertAuthority: "@cert-authority " + hostkey.KnownHosts(name, port, cert.CA),
		})
	}
	return info, nil
}

func (i *keysInfo) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, k := range i.Keys {
		fmt.Fprintf(w, "%s key\t%s %s\n", k.State, k.Fingerprint, k.Type)
		fmt.Fprintf(w, "DNS\t%s\n", k.SSHFP)
		fmt.Fprintf(w, "known_hosts\t%s\n", k.KnownHosts)
	}
	for _, c := range i.Certificates {
		until := "for good"
		if !c.Expires.IsZero() {
			until = "until " + c.Expires.Format(time.DateTime)
		}
		names := "any name"
		if len(c.Names) > 0 {
			names = strings.Join(c.Names, ", ")
		}
		fmt.Fprintf(w, "certificate\t%s for %s, %s, by %s\n", c.Key, names, until, c.CA)
		fmt.Fprintf(w, "known_hosts\t%s\n", c.CertAuthority)
	}
	return w.Flush()
}
