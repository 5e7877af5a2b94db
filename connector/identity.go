package connector

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"

	"nyala/store/vfs"
)

const (
	identityFile   = "node.json"
	lockFile       = "LOCK"
	identityFormat = 1
)

var incarnationPattern = regexp.MustCompile(`^[0-9a-f]{8}$`)

// Identity says whose a data directory is. It is written once, before anything else is, and never
// changes: a directory that was lost comes back as another incarnation, so that the node cannot pass
// for its old self, whose acknowledged entries it no longer has.
type Identity struct {
	Format      int    `json:"format"`
	Cluster     string `json:"cluster"`
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"` // 8 hex digits
}

// ErrWrongData is returned for a data directory of another cluster or node.
var ErrWrongData = errors.New("the data directory is not this node's")

// openIdentity locks dir and reads its identity, or gives it one. entropy is read only for the latter.
// The caller closes the lock when the node has stopped.
func openIdentity(files vfs.FS, dir, cluster, node string, entropy io.Reader) (Identity, io.Closer, error) {
	if err := vfs.MakeDir(files, dir); err != nil {
		return Identity{}, nil, fmt.Errorf("connector: data directory %s: %w", dir, err)
	}
	lock, err := files.Lock(path.Join(dir, lockFile))
	if errors.Is(err, vfs.ErrLocked) {
		return Identity{}, nil, fmt.Errorf("connector: data directory %s is in use by another process: stop that one first, or give this node a directory of its own: %w", dir, err)
	}
	if err != nil {
		return Identity{}, nil, fmt.Errorf("connector: data directory %s: lock: %w", dir, err)
	}
	id, err := readIdentity(files, dir)
	if errors.Is(err, fs.ErrNotExist) {
		id, err = createIdentity(files, dir, cluster, node, entropy)
	}
	if err == nil && (id.Cluster != cluster || id.Node != node) {
		err = fmt.Errorf("connector: data directory %s belongs to node %s of cluster %s, want node %s of cluster %s: check `data` and `cluster.name` in the configuration: %w",
			dir, id.Node, id.Cluster, node, cluster, ErrWrongData)
	}
	if err != nil {
		return Identity{}, nil, errors.Join(err, lock.Close())
	}
	return id, lock, nil
}

func readIdentity(files vfs.FS, dir string) (Identity, error) {
	name := path.Join(dir, identityFile)
	text, err := vfs.ReadFile(files, name)
	if err != nil {
		return Identity{}, fmt.Errorf("connector: %s: %w", name, err)
	}
	var id Identity
	if err := json.Unmarshal(text, &id); err != nil {
		return Identity{}, fmt.Errorf("connector: %s: %w", name, err)
	}
	if id.Format != identityFormat || !incarnationPattern.MatchString(id.Incarnation) {
		return Identity{}, fmt.Errorf("connector: %s: format %d and incarnation %q, want format %d and 8 hex digits: the file is damaged or of a newer nyala", name, id.Format, id.Incarnation, identityFormat)
	}
	return id, nil
}

func createIdentity(files vfs.FS, dir, cluster, node string, entropy io.Reader) (Identity, error) {
	var raw [4]byte
	if _, err := io.ReadFull(entropy, raw[:]); err != nil {
		return Identity{}, fmt.Errorf("connector: incarnation of %s: %w", dir, err)
	}
	id := Identity{Format: identityFormat, Cluster: cluster, Node: node, Incarnation: hex.EncodeToString(raw[:])}
	text, err := json.Marshal(id)
	if err != nil {
		return Identity{}, err
	}
	if err := vfs.ReplaceFile(files, path.Join(dir, identityFile), append(text, '\n')); err != nil {
		return Identity{}, fmt.Errorf("connector: identity of %s: %w", dir, err)
	}
	return id, nil
}
