package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"aarch64.com/isthmus/cmd/internal/version"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which isthmus this is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), version.Get())
			return err
		},
	}
}
