package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"nyala/connector/demo"
	"nyala/connector/perf"
)

// The groups of commands in the first help page.
const (
	groupNode    = "node"
	groupRead    = "read"
	groupOffline = "offline"
)

// usageTemplate is cobra's without the line of a command that only has commands.
const usageTemplate = `Usage:{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{else}}
  {{.UseLine}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}{{$commands := .Commands}}{{range $group := .Groups}}

{{.Title}}{{range $commands}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}{{if not .AllChildCommandsHaveGroup}}

{{if .Groups}}Others:{{else}}Commands:{{end}}{{range $commands}}{{if and (eq .GroupID "") .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
`

// newRoot makes the tree of all commands. A command of another package is added here, and only when all
// of it works.
func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:   "nyala",
		Short: "Kafka topics as replicated, updatable, columnar tables",
		Long: `Nyala reads Kafka topics into replicated, updatable, columnar tables: every record once, durable on a
majority, queryable in well under a second, stored as Parquet.`,
		Version:           Version(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	onlyCommands(root)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetUsageTemplate(usageTemplate)
	root.SetVersionTemplate("nyala {{.Version}}\n")
	root.AddGroup(
		&cobra.Group{ID: groupNode, Title: "Run:"},
		&cobra.Group{ID: groupRead, Title: "Ask a cluster:"},
		&cobra.Group{ID: groupOffline, Title: "Look at a node's files:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupNode, p.runCommand(), p.configCommand())
	add(groupRead, p.statusCommand(), p.scanCommand(), p.exportCommand(), p.verifyCommand(), p.offsetsCommand(), p.deadLettersCommand(), p.gapsCommand())
	add(groupOffline, p.checkCommand(), p.dumpCommand())
	measure := perf.Command()
	measure.PersistentPreRun = func(*cobra.Command, []string) { tuneScheduler(p.env) } // as `run` does
	add("", measure, p.versionCommand())
	untilSignal(root)
	// Commands that see to signals themselves come here.
	add(groupNode, demo.Command())
	p.wrap(root)
	return root
}

// onlyCommands makes c a command that does nothing but have others. cobra alone would answer a mistyped
// name with a help page and success.
func onlyCommands(c *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	c.AddCommand(subs...)
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		hint := ""
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf(", did you mean %s?", strings.Join(near, " or "))
		}
		return wrongUse("%s has no command %q%s", c.CommandPath(), args[0], hint)
	}
	return c
}

// arguments checks the number of a command's arguments and calls them by their names.
func arguments(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		if len(names) == 0 {
			return wrongUse("%s takes no arguments, got %q", c.CommandPath(), args)
		}
		if len(args) < len(names) {
			return wrongUse("%s needs %s", c.CommandPath(), strings.Join(names[len(args):], " and "))
		}
		return wrongUse("%s takes %s only, got %q as well", c.CommandPath(), strings.Join(names, " and "), args[len(names):])
	}
}
