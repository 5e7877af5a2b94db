package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"nyala/configs"
)

func (p *program) configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Say every fault of a configuration, each with its place",
		Long: `Says every fault of a configuration at once, each with file, line and column, the line itself and the
nearest right name. Exit status 0 if there is none, 2 if there is one. Nothing is started.`,
		Args: arguments("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := configs.Load(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(p.stderr, "%s is right: cluster %s of %s, %s, %s\n", args[0], c.Cluster.Name,
				plural(len(c.Cluster.Nodes), "node"), plural(len(c.Tables), "table"), plural(len(c.Connectors), "connector"))
			return nil
		},
	}
	printing := &cobra.Command{
		Use:   "print FILE",
		Short: "Print the effective settings, defaults too, secrets hidden",
		Args:  arguments("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := configs.Load(args[0])
			if err != nil {
				return err
			}
			return c.Print(p.stdout)
		},
	}
	return onlyCommands(&cobra.Command{Use: "config", Short: "Check or print a configuration"}, check, printing)
}
