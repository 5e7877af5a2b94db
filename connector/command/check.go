package command

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"nyala/connector"
	"nyala/store/vfs"
)

func (p *program) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check DATA_DIR",
		Short: "Verify all files of a stopped node",
		Long: `Reads everything in the data directory of a stopped node: every record of its log, its catalog, every manifest,
every checksum, page and key of its rowsets. Says each problem with its file and place. It repairs nothing. Exit status 0
only if all is whole.`,
		Example: `  nyala check data/n1`,
		Args:    arguments("DATA_DIR"),
		RunE:    func(_ *cobra.Command, args []string) error { return p.check(args[0]) },
	}
}

func (p *program) check(dir string) error {
	r, err := connector.CheckData(vfs.OS(), filepath.ToSlash(filepath.Clean(dir)))
	if err != nil {
		return err
	}
	for _, problem := range r.Problems {
		if _, err := fmt.Fprintln(p.stdout, problem); err != nil {
			return err
		}
	}
	if len(r.Problems) > 0 {
		return fmt.Errorf("%s is damaged, %s: with its other replicas healthy, move the directory away and start the node with an empty one", dir, plural(len(r.Problems), "problem"))
	}
	fmt.Fprintf(p.stdout, "%s is whole: node %s of cluster %s, incarnation %s, %s\n", dir, r.Identity.Node, r.Identity.Cluster, r.Identity.Incarnation, plural(r.Tablets, "tablet"))
	return nil
}
